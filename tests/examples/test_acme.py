"""The example plugin as its users get it: both wheels built, installed side by side, listed, trained with, and under law."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ACME = ROOT / "examples" / "llmkit-acme"

pytestmark = pytest.mark.slow


def built(source: Path, into: Path) -> Path:
    """The wheel of a source tree: of a copy, so that the build leaves nothing behind and finds nothing left over."""
    copy = into / f"{source.name}-source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "tests", "__pycache__", "examples")
    shutil.copytree(source, copy, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(into), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(into.glob(f"{'llmkit_acme' if source == ACME else 'llmkit'}-[0-9]*.whl"))


class Installed:
    """Both wheels in one directory, which a fresh interpreter finds before anything that is installed here."""

    def __init__(self, site: Path, work: Path) -> None:
        self.site, self.work = site, work
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LLMKIT_", "PYTEST_", "COV_"))}
        self.environment = {**inherited, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "HOME": str(work)}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.work, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("acme")
    wheels = directory / "wheels"
    wheels.mkdir()
    site, work = directory / "site", directory / "work"
    site.mkdir()
    work.mkdir()
    # What an installer does with a pure wheel: unpack it. Torch and the rest come from the interpreter that runs this test.
    for source in (ROOT, ACME):
        with zipfile.ZipFile(built(source, wheels)) as wheel:
            wheel.extractall(site)
    shutil.copytree(ACME / "tests", work / "tests")
    shutil.copy(ACME / "spec.yaml", work)
    return Installed(site, work)


def test_the_wheels_are_what_is_imported_and_hold_their_data(installed: Installed) -> None:
    files = installed.run("-c", "import llmkit, llmkit_acme; print(llmkit.__file__); print(llmkit_acme.__file__)").split()
    assert [Path(file).parents[1] for file in files] == [installed.site, installed.site]
    for name in ("recipes/defaults.yaml", "py.typed"):
        assert (installed.site / "llmkit" / name).is_file()


def test_plugins_list_shows_its_components_with_their_distribution(installed: Installed) -> None:
    listed = json.loads(installed.run("-m", "llmkit", "plugins", "list", "--json"))
    rows = [row for row in listed["components"] if row["name"].startswith("acme.")]
    ours = {(row["kind"], row["name"], row["distribution"], row["version"]) for row in rows}
    assert ours == {
        ("attention", "acme.fading", "llmkit-acme", "0.2.0"),
        ("norm", "acme.unit_norm", "llmkit-acme", "0.2.0"),
        ("evaluator", "acme.repetition", "llmkit-acme", "0.2.0"),
    }
    assert listed["failures"] == []


def test_a_model_of_its_components_trains_and_is_evaluated(installed: Installed) -> None:
    text = installed.work / "text.txt"
    text.write_text("".join(f"{number} bottles of beer on the wall, {number} bottles of beer.\n\n" for number in range(200)))
    source = f"data.source={{type: text, paths: [{text}], split: paragraph}}"
    trained = json.loads(installed.run("-m", "llmkit", "train", "spec.yaml", "--out", "run", "--set", source, "--json"))
    assert trained["step"] == 8
    metrics = [json.loads(line) for line in (installed.work / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    results = json.loads(installed.run("-m", "llmkit", "eval", "run", "--json"))["results"]
    assert {"perplexity", "acme.repetition"} <= {row["evaluator"] for row in results}


def test_its_own_tests_pass_and_hold_every_law(installed: Installed) -> None:
    said = installed.run("-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", "-o", "addopts=")
    assert " failed" not in said
    passed = int(said.strip().splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed > 50
