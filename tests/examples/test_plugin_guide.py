"""The plugin guide does what it says: its files are written, its commands are run, in its order."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from environment import Environment

GUIDE = Path(__file__).parents[2] / "docs" / "plugin-guide.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
CODE = "my-gated/src/llmkit_my_gated/gated.py"

Read = tuple[Environment, list[tuple[str, str]]]
"""Where someone has read to the end, and each command with what it said."""

pytestmark = pytest.mark.slow


def typed(environment: Environment, command: str) -> subprocess.CompletedProcess[str]:
    """A line of the guide, in an environment where llmkit is installed; `pip` fetches nothing, since all that is needed is here."""
    program, *arguments = shlex.split(command)
    if program == "pip":
        environment.install("--no-build-isolation", *arguments[1:], beside_dependencies=True)
        return subprocess.CompletedProcess(command, 0, "", "")
    return environment.call(program, *arguments)


def write(environment: Environment, path: str, text: str) -> None:
    """A file of the guide: what it changes is there, from the first command on."""
    assert (environment.work / path).is_file(), path
    (environment.work / path).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def reader(environment: Environment) -> Read:
    """Where someone has read to the end, and each command with what it said."""
    said = []
    for language, path, text in BLOCKS:
        if language == "console":
            for command in (line.removeprefix("$ ") for line in text.splitlines()):
                done = typed(environment, command)
                assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
                said.append((command, done.stdout + done.stderr))
        elif path and language != "text":
            write(environment, path, text)
    return environment, said


def test_every_command_of_the_guide_works(reader: Read) -> None:
    _, said = reader
    last = dict(said)
    assert all("broken: 0" in answer for command, answer in said if command.startswith("llmkit plugins check"))
    assert "my.gated" in last["llmkit plugins list"]
    shown = last["llmkit plugins show attention:my.gated --spec my-gated/gated.yaml"]
    assert "y = output(attend(q, k, v) * sigmoid(gate))" in shown and "blocks.*.attention.gate.weight" in shown
    compared = last["llmkit compare runs/baseline runs/gated"]
    assert "model.block.attention.type" in compared and "my.gated" in compared


def test_the_two_runs_differ_in_the_attention_and_by_the_parameters_that_the_guide_names(reader: Read) -> None:
    environment, _ = reader
    compared = json.loads(environment.run("llmkit", "compare", "runs/baseline", "runs/gated", "--json"))
    total = [run["parameters"]["total"] for run in compared["runs"]]
    assert total[1] - total[0] == 8192 and "8,192" in GUIDE.read_text(encoding="utf-8")
    assert all(run["finished"] for run in compared["runs"])
    changed = {row["address"] for row in compared["differences"]} - {"name", "requires"}
    assert changed and all(address.startswith("model.block.attention") for address in changed)


def test_the_mistake_that_the_guide_suggests_breaks_the_law_that_it_quotes(reader: Read) -> None:
    environment, _ = reader
    code = next(text for _, path, text in BLOCKS if path == CODE)
    write(environment, CODE, code.replace("like=like, window=self.window", "like=like, window=2"))
    done = typed(environment, "llmkit plugins check my-gated --law cached_equals_uncached")
    quoted = next(text for language, path, text in BLOCKS if (language, path) == ("text", "broken"))
    assert done.returncode == 2
    assert quoted.strip() in done.stderr


def test_every_block_is_a_file_or_a_command_and_the_code_is_below_forty_lines() -> None:
    assert all(language in ("console", "text") or path for language, path, _ in BLOCKS)
    files = {path: text for _, path, text in BLOCKS if path}
    assert files.keys() >= {"my-gated/src/llmkit_my_gated/__init__.py", CODE, "my-gated/gated.yaml"}
    assert len([line for line in files[CODE].splitlines() if line.strip()]) < 40
