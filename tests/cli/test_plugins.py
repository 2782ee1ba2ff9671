"""`llmkit plugins` at the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmkit
from llmkit.core.kinds import Kind


def run(*arguments: str, path: Path | None = None, **switches: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **switches, **({"PYTHONPATH": str(path)} if path is not None else {})}
    command = [sys.executable, "-m", "llmkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=path)


def distribution(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[llmkit]\nzoo = {name}\n")


GOOD = """
from llmkit import Component, Kind, Params, hookimpl

class Nothing(Params):
    "A norm that takes nothing."

@hookimpl
def llmkit_components():
    return [Component(Kind.norm, "zoo.norm", Nothing, "zoogood:Norm", "a norm from the zoo", revision=4)]
"""


def test_a_broken_plugin_is_named_in_the_list_and_everything_else_works(tmp_path):
    distribution(tmp_path, "zoobad", "import nothing_of_this_name")
    distribution(tmp_path, "zoogood", GOOD)
    listed = run("plugins", "list", "--json", path=tmp_path)
    document = json.loads(listed.stdout)
    assert listed.returncode == 0
    failures = [failure for failure in document["failures"] if failure["plugin"] == "zoobad:zoo"]
    assert failures == [{"plugin": "zoobad:zoo", "reason": "ModuleNotFoundError: No module named 'nothing_of_this_name'"}]
    assert {
        "kind": "norm",
        "name": "zoo.norm",
        "summary": "a norm from the zoo",
        "distribution": "zoogood",
        "version": "0.3",
        "revision": 4,
    } in document["components"]
    plain = run("plugins", "list", path=tmp_path)
    assert "failed: zoobad:zoo: ModuleNotFoundError" in plain.stderr and "zoo.norm" in plain.stdout
    assert run("spec", "check", "recipe:tiny", "--set", "model.norm=zoo.norm", path=tmp_path).returncode == 0


def test_strict_stops_at_a_broken_plugin_with_exit_code_2(tmp_path):
    distribution(tmp_path, "zoobad", "raise SystemExit(0)")
    done = run("plugins", "list", path=tmp_path, LLMKIT_STRICT="1")
    assert done.returncode == 2 and "zoobad:zoo has failed: SystemExit" in done.stderr and "Traceback" not in done.stderr


def test_every_built_in_is_listed_by_kind():
    listed = json.loads(run("plugins", "list", "--json", LLMKIT_NO_PLUGINS="1").stdout)
    assert {(row["kind"], row["name"]) for row in listed["components"]} == {
        (kind, name) for (kind, name), entry in llmkit.catalog().entries.items() if entry.origin.distribution == "llmkit"
    }
    kinds = [row["kind"] for row in listed["components"]]
    assert kinds == sorted(kinds, key=list(Kind).index) and listed["failures"] == []
    assert {row["kind"] for row in json.loads(run("plugins", "list", "--kind", "norm", "--json").stdout)["components"]} == {"norm"}


def test_show_tells_parameters_traits_and_where_the_code_lies():
    shown = json.loads(run("plugins", "show", "attention:gqa", "--json").stdout)
    parameters = {parameter["name"]: parameter for parameter in shown["parameters"]}
    assert shown["offers"] == ["bias", "rotate"] and shown["source"].endswith("multihead.py") and Path(shown["source"]).exists()
    assert parameters["n_kv_heads"]["required"] and parameters["n_kv_heads"]["type"] == "int"
    assert parameters["bias"] | {"description": ""} == {
        "name": "bias",
        "type": "bool or 'qkv'",
        "required": False,
        "default": False,
        "description": "",
    }
    plain = run("plugins", "show", "gqa").stdout
    assert "attention:gqa: " in plain and "n_kv_heads\tint\trequired\t" in plain


@pytest.mark.parametrize("component", [f"{component.kind}:{component.name}" for component in llmkit.catalog()])
def test_every_component_can_be_shown(component):
    from llmkit.cli.plugins_show import described, found

    details = json.loads(json.dumps(described(found(component, llmkit.catalog()))))
    assert details["source"] is not None and all(parameter["type"] and parameter["description"] for parameter in details["parameters"])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("attention:gqq", "did you mean 'gqa'"),
        ("atention:gqa", "did you mean 'attention'"),
        ("gqq", "did you mean"),
        ("none", "name one of position:none, norm:none"),
    ],
)
def test_what_does_not_exist_exits_2_with_a_suggestion(wanted, says):
    done = run("plugins", "show", wanted)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_show_prints_the_formula_of_the_code_without_importing_it():
    shown = json.loads(run("plugins", "show", "ffn:swiglu", "--json").stdout)
    assert "y = down(silu(gate(x)) * up(x))" in shown["formula"] and "arXiv 2002.05202" in shown["formula"] and "cost" not in shown
    probe = "import sys; from llmkit.cli import plugins_show as p; import llmkit; p.described(p.found('gqa', llmkit.catalog()))"
    command = [sys.executable, "-c", f"{probe}; print('torch' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "False"


def test_show_tells_shapes_and_cost_in_a_spec_where_the_component_takes_its_place():
    from llmkit.cli.plugins_show import cost, placed

    # Llama 3 8B with as many key heads as query heads: 4 x 4096^2 weights a layer, 2 x 4096 cached numbers a token and layer.
    mha = llmkit.catalog().find(Kind.attention, "mha")
    shown = cost(placed(mha, "recipe:llama3-8b", [], llmkit.catalog()), mha)
    assert shown["addresses"] == ("model.block.attention",) and shown["parameters"] == 32 * 4 * 4096**2
    assert shown["kv_cache_bytes_per_token"] == 32 * 2 * 4096 * 2
    assert {"name": "blocks.*.attention.key.weight", "shape": (4096, 4096), "count": 32} in shown["tensors"]
    plain = run("plugins", "show", "attention:gqa", "--spec", "recipe:llama3-8b", "--set", "model.block.attention.n_kv_heads=4").stdout
    assert "blocks.*.attention.key.weight\t512 x 4096\t32" in plain and "KV cache a token: 65,536 bytes" in plain


def test_show_with_a_spec_says_that_what_is_no_part_of_a_model_costs_nothing_there():
    done = run("plugins", "show", "optimizer:lion", "--spec", "recipe:tiny")
    assert done.returncode == 0 and "it is no part of a model" in done.stderr
    wrong = run("plugins", "show", "gqa", "--set", "model.n_layers=2")
    assert wrong.returncode == 2 and "add --spec SPEC" in wrong.stderr
