"""The ledger of studies: all of them, whatever they found."""

import json
from pathlib import Path

import pytest
from report_examples import whole as example
from small_study import small_study

from llmkit.ablate.directory import StudyDirectory
from llmkit.ablate.studies import ledger
from llmkit.ablate.study import load_study
from llmkit.core.errors import UserError
from llmkit.runtime import catalog


def placed(root: Path, place: Path, **parts) -> StudyDirectory:
    directory = StudyDirectory(root)
    directory.freeze(load_study(small_study(place, **parts)), catalog(), max_seeds=None, command="llmkit ablate")
    return directory


def test_every_study_below_a_directory_is_listed_negative_and_unfinished_ones_too(tmp_path):
    placed(tmp_path / "studies" / "deep" / "first", tmp_path).write_results(example().model_copy(update={"amendments": []}))
    placed(tmp_path / "studies" / "second", tmp_path)
    (tmp_path / "studies" / "second" / "cells" / "rms").mkdir(parents=True)
    (tmp_path / "studies" / "something" / "else").mkdir(parents=True)
    found = {one.name: one for one in ledger(tmp_path / "studies")}
    assert {name: one.standing for name, one in found.items()} == {"first": "complete", "second": "unfinished"}
    verdicts = [arm.judgement.verdict for arm in found["first"].judged]
    assert verdicts == [arm.judgement.verdict for arm in example().arms if arm.name != example().baseline]
    json.dumps([one.document() for one in found.values()])


def test_a_study_that_was_amended_since_its_results_says_so(tmp_path):
    directory = placed(tmp_path / "studies" / "one", tmp_path)
    directory.write_results(example().model_copy(update={"amendments": []}))
    directory.freeze(load_study(small_study(tmp_path, alpha=0.01)), catalog(), max_seeds=None, command="")
    assert [one.standing for one in ledger(tmp_path)] == ["amended since"]


def test_a_directory_that_is_not_there_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no directory"):
        ledger(tmp_path / "nowhere")
