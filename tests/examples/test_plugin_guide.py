"""The plugin guide does what it says: its files are written, its commands are run, in its order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "plugin-guide.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))

pytestmark = pytest.mark.slow


class Reader:
    """Someone who follows the guide in an empty directory. What they install goes into a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.work, self.site = home / "work", home / "site"
        self.work.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LLMKIT_", "PYTEST_", "COV_"))}
        self.environment = {**inherited, "PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1", "HOME": str(home), "COLUMNS": "200"}

    def write(self, path: str, text: str) -> None:
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """A line of the guide, as this interpreter's own program.

        `pip` fetches nothing, since all that is needed is here, and nothing is linked into this environment: what is edited later
        is found because the directory of work comes first.
        """
        program, *arguments = shlex.split(command)
        if program == "pip":
            arguments.remove("-e")
            arguments[1:1] = ["--quiet", "--no-deps", "--no-build-isolation", "--upgrade", "--target", str(self.site)]
        line = [sys.executable, "-m", program, *arguments]
        return subprocess.run(line, cwd=self.work, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, dict[str, str]]:
    """Who has read to the end, and what each command said."""
    reader, said = Reader(tmp_path_factory.mktemp("guide")), {}
    for language, path, text in BLOCKS:
        if language == "console":
            for command in (line.removeprefix("$ ") for line in text.splitlines()):
                done = reader.type(command)
                assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
                said[command] = done.stdout + done.stderr
        elif path and language != "text":
            reader.write(path, text)
    return reader, said


def test_every_command_of_the_guide_works(reader: tuple[Reader, dict[str, str]]) -> None:
    _, said = reader
    assert len(said) >= 7
    assert "mine.gated" in said["llmkit plugins list"]
    assert "n_heads" in said["llmkit plugins show attention:mine.gated"]
    assert re.search(r"\b[3-9]\d passed", said["pytest tests"])


def test_the_mistake_that_the_guide_suggests_breaks_the_law_that_it_quotes(reader: tuple[Reader, dict[str, str]]) -> None:
    person, _ = reader
    code = next(text for _, path, text in BLOCKS if path == "llmkit_mine/gated.py")
    person.write("llmkit_mine/gated.py", code.replace("like=like, window=self.window", "like=like, window=2"))
    done = person.type("pytest tests")
    quoted = next(text for language, path, text in BLOCKS if (language, path) == ("text", "broken"))
    assert done.returncode == 1
    assert " ".join(quoted.split()) in " ".join(done.stdout.split())


def test_every_block_is_a_file_or_a_command() -> None:
    assert all(language in ("console", "text") or path for language, path, _ in BLOCKS)
    assert {path for _, path, _ in BLOCKS} >= {"pyproject.toml", "llmkit_mine/__init__.py", "llmkit_mine/gated.py", "spec.yaml"}
