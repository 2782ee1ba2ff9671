"""The example plugin as its users get it: both wheels built, installed by pip side by side, listed, trained with, and under law."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from environment import Environment

ACME = Path(__file__).parents[2] / "examples" / "llmkit-acme"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(environment: Environment, build_wheel: Callable[[Path], Path]) -> Environment:
    environment.install(str(build_wheel(ACME)))
    shutil.copytree(ACME / "tests", environment.work / "tests")
    shutil.copy(ACME / "spec.yaml", environment.work)
    return environment


def test_the_wheels_are_what_is_imported_and_hold_their_data(installed: Environment) -> None:
    files = installed.run("python", "-c", "import llmkit, llmkit_acme; print(llmkit.__file__); print(llmkit_acme.__file__)").split()
    assert [Path(file).parents[1] for file in files] == [installed.site, installed.site]
    for name in ("recipes/defaults.yaml", "py.typed"):
        assert (installed.site / "llmkit" / name).is_file()


def test_plugins_list_shows_its_components_with_their_distribution(installed: Environment) -> None:
    listed = json.loads(installed.run("llmkit", "plugins", "list", "--json"))
    rows = [row for row in listed["components"] if row["name"].startswith("acme.")]
    ours = {(row["kind"], row["name"], row["distribution"], row["version"]) for row in rows}
    assert ours == {
        ("attention", "acme.fading", "llmkit-acme", "0.2.0"),
        ("norm", "acme.unit_norm", "llmkit-acme", "0.2.0"),
        ("evaluator", "acme.repetition", "llmkit-acme", "0.2.0"),
    }
    assert listed["failures"] == []


def test_a_model_of_its_components_trains_and_is_evaluated(installed: Environment) -> None:
    text = installed.work / "text.txt"
    text.write_text("".join(f"{number} bottles of beer on the wall, {number} bottles of beer.\n\n" for number in range(200)))
    source = f"data.source={{type: text, paths: [{text}], split: paragraph}}"
    trained = json.loads(installed.run("llmkit", "train", "spec.yaml", "--out", "run", "--set", source, "--json"))
    assert trained["step"] == 8
    metrics = [json.loads(line) for line in (installed.work / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    results = json.loads(installed.run("llmkit", "eval", "run", "--json"))["results"]
    assert {"perplexity", "acme.repetition"} <= {row["evaluator"] for row in results}


def test_its_own_tests_pass_and_hold_every_law(installed: Environment) -> None:
    said = installed.run("pytest", "tests", "-q", "-p", "no:cacheprovider", "-o", "addopts=")
    assert " failed" not in said
    passed = int(said.strip().splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed > 50
