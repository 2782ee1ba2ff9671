"""`llmkit plugins new` and `check` at the command line: the first minutes of a plugin's author."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAW = "factors_are_finite_and_never_negative"
INIT = "src/llmkit_my_fall/__init__.py"


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmkit", "plugins", *arguments]
    environment = {**os.environ, "LLMKIT_NO_PLUGINS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=directory, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory with a new package in it, not installed."""
    assert run(tmp_path, "new", "my-fall", "--kind", "schedule").returncode == 0
    return tmp_path


def test_new_tells_its_files_and_they_pass_check_at_once_without_being_installed(tmp_path: Path) -> None:
    told = json.loads(run(tmp_path, "new", "my-fall", "--kind", "schedule", "--out", "here", "--prefix", "acme", "--json").stdout)
    assert {"directory": "here", "distribution": "llmkit-my-fall", "kind": "schedule", "name": "acme.my_fall"}.items() <= told.items()
    assert all((tmp_path / file).is_file() for file in told["files"])
    done = run(tmp_path, "check", "here", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["broken"] == 0 and all(row["passed"] for row in document["laws"])
    assert {(row["kind"], row["name"]) for row in document["laws"]} == {("schedule", "acme.my_fall")}
    assert {row["example"] for row in document["laws"]} == {0, 1} and {"parameters": {"warmup": 1}}.items() <= document["laws"][-1].items()


def test_what_is_there_is_never_overwritten_and_exits_2(package: Path) -> None:
    before = (package / "my-fall" / "README.md").stat().st_mtime_ns
    again = run(package, "new", "my-fall", "--kind", "norm")
    assert again.returncode == 2 and "name another directory with --out" in again.stderr
    assert (package / "my-fall" / "README.md").stat().st_mtime_ns == before


def test_a_broken_law_exits_2_and_is_a_sentence_with_the_smallest_input(package: Path) -> None:
    code = package / "my-fall" / "src" / "llmkit_my_fall" / "fall.py"
    code.write_text(code.read_text().replace("return float(", "return float(0.5 - step if total > 2 else "))
    broken = run(package, "check", "my-fall")
    assert broken.returncode == 2 and "Traceback" not in broken.stderr
    assert "broken: schedule:my.fall: factors_are_finite_and_never_negative: " in broken.stderr
    assert "Broken by my.fall : step 1 of 3 has the factor -0.5" in broken.stderr
    assert "factors_are_finite_and_never_negative\t2 of 2 broken" in broken.stdout and "schedule\tmy.fall\n" in broken.stdout
    document = json.loads(run(package, "check", "my-fall", "--json").stdout)
    assert [row["law"] for row in document["laws"] if not row["passed"]] == [LAW] * 2
    assert document["broken"] == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (INIT, "from llmkit import", "import nothing_there\nfrom llmkit import", "cannot be imported: ModuleNotFound"),
        (INIT, '"my.fall"', '"fall"', "a name must be prefix.name in lower case"),
        ("pyproject.toml", "[project.entry-points.llmkit]", "[project.entry-points.llmkits]", "has no [project.entry-points.llmkit]"),
        ("pyproject.toml", "[project]", "[project", "is no TOML"),
        ("pyproject.toml", "[project.entry-points.llmkit]", "[project.entry-points]\nllmkit = 3\n[other]", "has no [project.entry"),
    ],
)  # fmt: skip
def test_a_package_that_does_not_load_exits_2_with_the_reason(package: Path, file: str, old: str, new: str, says: str) -> None:
    place = package / "my-fall" / file
    place.write_text(place.read_text().replace(old, new))
    done = run(package, "check", "my-fall")
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_a_built_in_is_checked_by_name_with_parameters_of_ones_choice(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "check", "schedule:cosine", "--params", "{warmup: 3, floor: 0.5}", "--law", LAW, "--json").stdout)
    assert {json.dumps(row["parameters"]) for row in document["laws"]} == {'{"warmup": 3.0, "floor": 0.5}'}
    assert [row["law"] for row in document["laws"]] == [LAW]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give what is to be checked"),
        (("schedule:cosine", "--all"), "give what is to be checked"),
        (("schedule:cosin",), "did you mean 'cosine'"),
        (("./nowhere",), "has no pyproject.toml; give the directory of a package"),
        (("schedule:cosine", "--law", "casual"), "--law 'casual' is no law of these components"),
        (("schedule:cosine", "--params", "3"), "--params '3' is no mapping"),
        (("schedule:cosine", "--params", "{warmup: 1.5}"), "neither a part of the run"),
    ],
)
def test_a_mistake_exits_2_with_what_to_do(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = run(tmp_path, "check", *arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
