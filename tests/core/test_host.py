"""Plugins from real distributions: what pluggy keeps silent about is said, and a broken one breaks nothing but itself."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmkit.core.catalog import Catalog, Origin
from llmkit.core.errors import UserError
from llmkit.core.host import Host
from llmkit.core.kinds import Kind
from llmkit.runtime import assemble, load_spec

GOOD = """
from pydantic import Field
from llmkit import Component, Kind, Params, hookimpl

class NormParams(Params):
    eps: float = Field(1e-6, description="added to the variance")

@hookimpl
def llmkit_components():
    return [Component(Kind.norm, "{name}", NormParams, "nowhere:Norm", "a norm")]
"""
HOOK = "from llmkit import hookimpl\n@hookimpl\ndef llmkit_components():\n    "
BAD = GOOD.format(name="zoo.bad")
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Writes a distribution with one module and its entry point where Python looks."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(distribution: str, code: str, *, entry: str = "plugin", version: str = "1.0") -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[llmkit]\n{entry} = {module}\n")

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("zoo"):
            del sys.modules[name]


def catalog(**switches: str) -> Catalog:
    return assemble(switches)


def reasons(found: Catalog) -> dict[str, str]:
    return {failure.plugin: failure.reason for failure in found.failures if failure.plugin.startswith(("zoo", "norm:zoo"))}


def test_a_component_of_another_distribution_stands_beside_the_built_ins_with_its_origin(install):
    install("zoo-good", GOOD.format(name="zoo.good"), version="2.1")
    found = catalog()
    assert found.entry(Kind.norm, "zoo.good").origin == Origin("zoo-good", "2.1")
    assert found.entry(Kind.norm, "rmsnorm").origin.distribution == "llmkit"
    spec = load_spec({"model": {"d_model": 8, "n_layers": 1, "max_seq_len": 8, "norm": "zoo.good", "position": "none"}}, catalog=found)
    assert spec.model.norm.params.eps == 1e-6


def test_two_distributions_with_one_entry_point_name_both_load(install):
    install("zoo-one", GOOD.format(name="zoo.one"), entry="norms")
    install("zoo-two", GOOD.format(name="zoo.two"), entry="norms")
    assert {"zoo.one", "zoo.two"} <= set(catalog().names(Kind.norm))


BROKEN = {
    "raises when imported": ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    "exits when imported": ("raise SystemExit(3)", "SystemExit: 3"),
    "has a syntax error": ("def (:", "SyntaxError"),
    "raises in the hook": (HOOK + "raise ValueError('no luck')", "ValueError: no luck"),
    "exits in the hook": (HOOK + "raise SystemExit", "SystemExit"),
    "raises while it is iterated": (
        HOOK + "yield 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "misspells the hook": (
        "from llmkit import hookimpl\n@hookimpl\ndef llmkit_component():\n    return []",
        "rename the function to llmkit_components",
    ),
    "forgets the marker": ("def llmkit_components():\n    return []", "write @llmkit.hookimpl above it"),
    "uses another project's marker": (
        "import pluggy\n@pluggy.HookimplMarker('pytest')\ndef llmkit_components():\n    return []",
        "write @llmkit.hookimpl above it",
    ),
    "misspells the hook without a marker": ("def llmkit_componets():\n    return []", "'llmkit_componets' is close"),
    "has no hook": ("answer = 42", "add a function llmkit_components"),
    "asks for an argument": ("from llmkit import hookimpl\n@hookimpl\ndef llmkit_components(catalog):\n    return []", "catalog"),
    "returns nothing": (HOOK + "pass", "return a list of Components"),
    "returns something else": (HOOK + "return ['norm']", "'norm', which is no Component"),
    "takes an undotted name": (GOOD.format(name="shiny"), "norm:shiny: a name must be prefix.name"),
    "replaces a built-in": (GOOD.format(name="rmsnorm"), "undotted names are llmkit's own"),
    "takes llmkit's prefix": (GOOD.format(name="llmkit.norm"), "the prefix 'llmkit' is llmkit's own"),
    "names no target": (BAD.replace("nowhere:Norm", "nowhere.Norm"), "must be 'module:attribute'"),
    "describes no parameter": (BAD.replace('Field(1e-6, description="added to the variance")', "1e-6"), "need a description: eps"),
    "has a plain class of parameters": (BAD.replace("NormParams,", "dict,"), "must be a subclass of llmkit.Params"),
    "has an unknown kind": (BAD.replace("Kind.norm", "'norms'"), "kind 'norms', which is none of"),
    "names one component twice": (BAD.replace("return [", "return 2 * ["), "norm:zoo.bad is returned twice"),
}


@pytest.mark.parametrize(("code", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_named_with_its_reason_and_breaks_nothing_else(install, code, reason):
    install("zoo-bad", code)
    install("zoo-good", GOOD.format(name="zoo.good"))
    found = catalog()
    assert list(reasons(found)) == ["zoo-bad:plugin"] and reason in reasons(found)["zoo-bad:plugin"]
    assert "zoo.good" in found.names(Kind.norm) and "zoo.bad" not in found.names(Kind.norm)
    assert found.entry(Kind.norm, "rmsnorm").origin.distribution == "llmkit"
    with pytest.raises(UserError, match="zoo-bad:plugin has failed"):
        catalog(LLMKIT_STRICT="1")


def test_a_name_that_two_plugins_claim_is_withdrawn_from_both_and_using_it_names_them(install):
    install("zoo-one", GOOD.format(name="zoo.same"))
    install("zoo-two", GOOD.format(name="zoo.same"))
    found = catalog()
    assert "zoo.same" not in found.names(Kind.norm)
    assert "zoo-one:plugin and zoo-two:plugin both claim it" in reasons(found)["norm:zoo.same"]
    with pytest.raises(UserError, match=r"'zoo.same' is withdrawn: zoo-one:plugin and zoo-two:plugin both claim it; uninstall one"):
        load_spec({"model": {"d_model": 8, "n_layers": 1, "max_seq_len": 8, "norm": "zoo.same"}}, catalog=found)
    with pytest.raises(UserError, match="both claim it"):
        catalog(LLMKIT_STRICT="1")
    assert "zoo.same" in catalog(LLMKIT_PLUGINS="zoo-two").names(Kind.norm)


def test_switches_choose_which_plugins_are_loaded(install):
    install("zoo-one", GOOD.format(name="zoo.one"), entry="first")
    install("zoo-two", GOOD.format(name="zoo.two"), entry="second")
    theirs = {"zoo.one", "zoo.two"}
    assert theirs & set(catalog(LLMKIT_PLUGINS="zoo_one").names(Kind.norm)) == {"zoo.one"}
    assert theirs & set(catalog(LLMKIT_PLUGINS="second").names(Kind.norm)) == {"zoo.two"}
    assert theirs & set(catalog(LLMKIT_PLUGINS="first, zoo-two").names(Kind.norm)) == theirs
    assert not theirs & set(catalog(LLMKIT_NO_PLUGINS="1").names(Kind.norm))
    assert theirs <= set(catalog(LLMKIT_PLUGINS="", LLMKIT_NO_PLUGINS="0").names(Kind.norm))
    assert reasons(catalog(LLMKIT_PLUGINS="zoo-three"))["zoo-three"].endswith("install it")


def test_what_a_plugin_prints_stays_off_stdout(install, capsys):
    install("zoo-loud", "print('hello')\n" + GOOD.format(name="zoo.loud").replace("    return [", "    print('again')\n    return ["))
    assert "zoo.loud" in catalog().names(Kind.norm)
    told = capsys.readouterr()
    assert told.out == "" and told.err == "hello\nagain\n"


def test_a_distribution_that_lies_twice_on_the_path_is_one_plugin(install, tmp_path, monkeypatch):
    install("zoo-good", GOOD.format(name="zoo.good"))
    older = tmp_path / "elsewhere"
    older.mkdir()
    (tmp_path / "zoo_good-1.0.dist-info").rename(older / "zoo_good-1.0.dist-info")
    install("zoo-good", GOOD.format(name="zoo.good"), version="1.1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    found = catalog()
    assert reasons(found) == {} and found.entry(Kind.norm, "zoo.good").origin.version == "1.1"


def test_two_hosts_know_nothing_of_each_other(install):
    install("zoo-good", GOOD.format(name="zoo.good"))
    first, second = Host(), Host()
    first.load_entry_points(["zoo-good"])
    assert first.catalog().names(Kind.norm) == ["zoo.good"] and second.catalog().names(Kind.norm) == []
    with pytest.raises(TypeError):
        first.catalog().entries[Kind.norm, "x"] = None


def test_the_fingerprint_changes_with_what_is_installed(install):
    bare = catalog(LLMKIT_NO_PLUGINS="1").fingerprint
    assert catalog(LLMKIT_NO_PLUGINS="1").fingerprint == bare
    install("zoo-good", GOOD.format(name="zoo.good"))
    assert catalog(LLMKIT_PLUGINS="zoo-good").fingerprint != bare
