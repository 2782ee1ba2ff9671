"""The pytest plugin, in a pytest of its own, as a plugin's author meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "numpy", "pydantic", "yaml", "llmkit.runtime", "llmkit.core")

PLUGIN = """
import llmkit
from pydantic import Field

class Params(llmkit.Params):
    peak: float = Field(1.0, description="the factor", examples=[0.5])

class Flat(llmkit.Schedule):
    def __call__(self, step, total):
        return {returned}

@llmkit.hookimpl
def llmkit_components():
    return [llmkit.Component(llmkit.Kind.schedule, "mine.flat", Params, "mine:Flat", "the same all the way")]
"""

TEST = """
import mine, pytest

@pytest.mark.llmkit_laws(mine)
def test_law(law):
    law()
"""


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def written(directory: Path, returned: str, test: str = TEST) -> Path:
    (directory / "mine.py").write_text(PLUGIN.format(returned=returned))
    (directory / "test_mine.py").write_text(test)
    return directory


def test_each_law_is_a_test_with_a_name_that_says_which(tmp_path: Path) -> None:
    code, said = run(written(tmp_path, "self.params.peak"), "-v")
    assert code == 0
    assert "test_law[schedule:mine.flat-factors_are_finite_and_never_negative] PASSED" in said
    assert "test_law[schedule:mine.flat[1]-factors_are_finite_and_never_negative] PASSED" in said


def test_a_broken_law_is_told_in_its_words_and_without_a_traceback(tmp_path: Path) -> None:
    code, said = run(written(tmp_path, "self.params.peak - step"))
    assert code == 1
    assert "Broken by mine.flat : step 2 of 3 has the factor -1.0" in " ".join(said.split())
    assert "Traceback" not in said and "lawbook" not in said


def test_what_the_component_itself_raises_is_shown_with_its_place(tmp_path: Path) -> None:
    code, said = run(written(tmp_path, "1 / (total - step - 1)"))
    assert code == 1
    assert "ZeroDivisionError" in said and "mine.py:10" in said


def test_parameters_may_be_given_in_the_mark(tmp_path: Path) -> None:
    test = TEST.replace("(mine)", '(mine, given={"mine.flat": [{"peak": -1.0}]})')
    code, said = run(written(tmp_path, "self.params.peak", test))
    assert code == 1
    assert "Broken by mine.flat peak=-1.0: step 0 of 1 has the factor -1.0" in " ".join(said.split())


def test_pytest_starts_without_anything_heavy_whoever_has_llmkit_installed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(f"import sys\ndef test_it():\n    assert not set({HEAVY!r}) & set(sys.modules)\n")
    code, said = run(tmp_path)
    assert code == 0, said


def test_a_fixture_called_law_stays_its_owners_where_there_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\n@pytest.mark.parametrize('law', [1])\ndef test_it(law):\n    assert law == 1\n")
    code, said = run(tmp_path)
    assert code == 0, said
