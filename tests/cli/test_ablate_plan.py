"""A plan as a person reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmkit.ablate.plan import Estimate, make_plan
from llmkit.ablate.study import load_study
from llmkit.cli.ablate_plan import duration, show_plan, time_words

STUDY = {
    "name": "s",
    "extends": {
        "tokenizer": "bytes",
        "model": {"d_model": 32, "n_layers": 2, "max_seq_len": 32, "block": {"attention": {"type": "mha", "n_heads": 4}}},
        "train": {"steps": 10, "batch_size": 4},
    },
    "axes": {"attention": {"mha": {}, "mqa": {"model.block.attention": {"type": "mqa", "n_heads": 4}}}},
    "baseline": "mha",
    "seeds": 3,
}


def test_a_plan_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(load_study(STUDY))
    show_plan(plan)
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines[:2]] == ["mha", "mqa"] and lines[0][-1] == "baseline" and lines[1][-1] == "confounded"
    assert ["model.block.attention.type", "mha", "mqa"] in lines
    assert any(line[:3] == ["mqa", "confounded", "parameters"] for line in lines)
    assert "warning: confounded" in err and "6 runs; how long they take was not probed" in err


def test_what_was_turned_is_marked_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(load_study({**STUDY, "match": "params"}))
    show_plan(plan)
    out, _ = capsys.readouterr()
    assert f"mqa\t{plan.arm('mqa').matched}" in out
    assert any(line.startswith("model.block.ffn.d_ff *\t") for line in out.splitlines())


def test_the_time_of_the_whole_is_told_with_how_it_was_found() -> None:
    plan = replace(make_plan(load_study(STUDY)), estimate=Estimate(1234.0, 6, 2, 1, 11.2))
    assert time_words(plan) == "6 runs, 2 at once: about 21 min, by a probe of 11 s that had the machine to itself"


def test_durations_read_as_a_person_says_them() -> None:
    assert [duration(seconds) for seconds in (45, 720, 12_600, 181_440)] == ["45 s", "12 min", "3.5 h", "2.1 days"]
