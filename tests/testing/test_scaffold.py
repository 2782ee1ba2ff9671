"""A new package, of each kind: its names, its files, and that it loads from where it lies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llmkit import catalog
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.runtime import load_spec
from llmkit.testing.scaffold import Names, names, scaffold
from llmkit.testing.unpacked import unpacked


@pytest.fixture
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("kind", list(Kind))
def test_a_package_of_each_kind_loads_and_its_spec_names_its_component(kind: Kind, tmp_path: Path, own_path: None) -> None:
    directory = tmp_path / "new"
    files = scaffold(f"one-{kind}", kind, directory, "acme")
    assert sorted(files) == sorted(path for path in directory.rglob("*") if path.is_file())
    components, known = unpacked(directory, catalog())
    assert [(component.kind, component.name) for component in components] == [(kind, f"acme.one_{kind}")]
    # That it is not installed yet, `requires` would say; everything else of the spec holds.
    spec = directory / f"one_{kind}.yaml"
    spec.write_text(re.sub("^requires.*$", "", spec.read_text(), flags=re.MULTILINE))
    slots = {(of, chosen.type) for _, of, chosen in load_spec(spec, catalog=known).slots()}
    assert (kind, f"acme.one_{kind}") in slots
    assert (kind, f"acme.one_{kind}") not in {(of, chosen.type) for _, of, chosen in load_spec(directory / "baseline.yaml").slots()}


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_of_the_template_is_left_in_a_package_and_its_code_is_formatted(kind: Kind, tmp_path: Path) -> None:
    for file in scaffold("gated-thing", kind, tmp_path / "new"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"llmkit\.testing|scaffold|[Ii]dea", text), file
        if file.suffix == ".py":
            ast.parse(text)
    done = subprocess.run([sys.executable, "-m", "ruff", "check", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_package_publishes_its_plugin_and_needs_llmkit(tmp_path: Path) -> None:
    scaffold("my-idea", Kind.norm, tmp_path / "new")
    project = tomllib.loads((tmp_path / "new" / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["entry-points"]["llmkit"]) == ("llmkit-my-idea", {"idea": "llmkit_my_idea"})
    assert project["dependencies"] == ["llmkit>=0.1"]


@pytest.mark.parametrize(
    ("name", "prefix", "called"),
    [
        ("my-idea", "my", Names("llmkit-my-idea", "llmkit_my_idea", "my.idea", "idea", "Idea")),
        ("my-idea", "acme", Names("llmkit-my-idea", "llmkit_my_idea", "acme.my_idea", "my_idea", "MyIdea")),
        ("gated", "my", Names("llmkit-gated", "llmkit_gated", "my.gated", "gated", "Gated")),
        ("llmkit-two-words", "my", Names("llmkit-two-words", "llmkit_two_words", "my.two_words", "two_words", "TwoWords")),
    ],
)
def test_names_follow_from_the_name_and_no_prefix_is_written_twice(name: str, prefix: str, called: Names) -> None:
    assert names(name, prefix) == called


@pytest.mark.parametrize(
    ("name", "prefix", "says"),
    [
        ("My Idea", "my", "write lower-case words with hyphens"),
        ("../up", "my", "write lower-case words"),
        ("", "my", "write lower-case words"),
        ("-", "my", "write lower-case words"),
        ("2d", "my", "write lower-case words"),
        ("my-2d", "my", "'2d' cannot name a module"),
        ("my-class", "my", "a word of Python"),
        ("gated", "llmkit", "give one lower-case word of your own"),
        ("gated", "a.b", "give one lower-case word of your own"),
        ("tensor", "my", "a class 'Tensor' would hide another one"),
        ("attention", "my", "a class 'Attention' would hide another one"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_what_to_do_and_nothing_is_written(
    name: str, prefix: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        scaffold(name, Kind.attention, tmp_path / "new", prefix)
    assert not (tmp_path / "new").exists()


def test_an_existing_directory_is_left_as_it_is_even_where_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match="is there already and is left as it is; name another directory with --out"):
        scaffold("my-idea", Kind.ffn, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        scaffold("my-idea", Kind.ffn, tmp_path / "file" / "below")
