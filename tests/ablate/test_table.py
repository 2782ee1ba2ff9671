"""Tables that people bring: what is read, and what is wrong with them, with its place."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmkit.ablate.table import _places, judge_table, read_table
from llmkit.core.errors import UserError

GOOD = "arm,seed,value\nmha,0,3.28\nmha,1,3.29\ngqa,0,3.27\ngqa,1,3.285\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "losses.csv"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_table(file)
    return [line.removeprefix(f"{file}:") for line in str(refused.value).splitlines()]


def test_values_come_by_arm_and_seed_in_the_order_of_the_file(file: Path) -> None:
    file.write_text(GOOD)
    table = read_table(file)
    assert table.name == "losses"
    assert table.values == {"mha": {0: 3.28, 1: 3.29}, "gqa": {0: 3.27, 1: 3.285}}
    assert list(table.values) == ["mha", "gqa"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n").replace(",", " , "),
        "\ufeff" + GOOD,
        GOOD.replace("mha", '"mha"'),
        "\n".join(",".join(reversed(line.split(","))) for line in GOOD.splitlines()),
        "note,arm,seed,value\n" + "\n".join(f'"a ""note"", of\ntwo lines",{line}' for line in GOOD.splitlines()[1:]),
    ],
    ids=["semicolons", "tabs", "windows", "blank lines and spaces", "byte order mark", "quotes", "another order", "another column"],
)
def test_the_same_table_in_another_dress_is_the_same_table(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    assert read_table(file).values == {"mha": {0: 3.28, 1: 3.29}, "gqa": {0: 3.27, 1: 3.285}}


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "", " "])
def test_a_value_that_is_no_finite_number_is_a_run_that_diverged(file: Path, value: str) -> None:
    file.write_text(f"{GOOD}bad,0,{value}\n")
    assert read_table(file).values["bad"] == {0: None}


def test_each_mistake_is_told_with_its_line_and_column(file: Path) -> None:
    text = 'arm,seed,value\nmha,0,3,28\nmha,zero,3\n"a,b",1,3x\nmha,0,1\nmha,0,2\n,1,2\nmha,1.5,1_0\n'
    assert [one.split(";")[0] for one in problems(file, text)] == [
        "2:1: has 4 fields where the header names 3",
        "3:5: seed: expected a whole number, got 'zero'",
        "4:9: value: expected a number, got '3x'",
        "6:5: seed: 'mha' with seed 0 stands already in line 5",
        "7:1: arm: is empty",
        "8:5: seed: expected a whole number, got '1.5'",
        "8:9: value: expected a number, got '1_0'",
    ]


def test_a_place_behind_a_field_of_two_lines_is_in_its_second_line(file: Path) -> None:
    assert problems(file, 'note,arm,seed,value\n"two\nlines",mha,0,x\n')[0].startswith("3:14: value: ")


def test_a_missing_column_is_named_with_the_one_that_was_meant(file: Path) -> None:
    assert problems(file, "arm,seed,valeu\nmha,0,1\n") == [
        "1:1: value: is no column of this table; name the columns arm, seed and value; did you mean 'valeu'?"
    ]
    assert len(problems(file, "a,b,c\n1,2,3\n")) == 3


def test_a_column_that_is_there_twice_is_refused_at_the_second(file: Path) -> None:
    assert problems(file, "arm,seed,value,seed\n") == ["1:16: seed: is named twice in the header; keep one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("\n \n", "is empty"), ("arm,seed,value\n", "holds no runs"), ('arm,seed,value\n"mha,0', "its quotes")],
)
def test_a_file_that_holds_no_table_says_what_one_holds(file: Path, text: str, words: str) -> None:
    assert words in problems(file, text)[0]


def test_what_cannot_be_read_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"arm,seed,value\n\xff\xfe")
    for name, words in {"bytes.csv": "UTF-8", "none.csv": "cannot read", ".": "cannot read"}.items():
        with pytest.raises(UserError, match=words):
            read_table(tmp_path / name)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from(list('mg01.,;\t\n\r" \x00\u2028-enaif'))), st.booleans())
def test_whatever_a_file_holds_it_is_a_table_or_refused(file: Path, text: str, header: bool) -> None:
    file.write_bytes(("arm,seed,value\n" * header + text).encode())
    with suppress(UserError):
        assert read_table(file).values


def test_a_table_becomes_a_study_with_its_cells(file: Path) -> None:
    file.write_text(GOOD + "bad,0,nan\nbad,1,3\n")
    found = judge_table(read_table(file), "mha")
    assert [(arm.name, arm.judgement.verdict) for arm in found.arms] == [("mha", None), ("gqa", "inconclusive"), ("bad", "unstable")]
    assert [(cell.seed, cell.ending, cell.value) for cell in found.arms[2].cells] == [(0, "diverged", None), (1, "finished", 3.0)]
    assert found.warnings == []


def test_seeds_that_only_one_side_has_are_warned_of(file: Path) -> None:
    file.write_text(GOOD + "gqa,7,3\n")
    assert judge_table(read_table(file), "mha").warnings == ["gqa and mha do not have the same seeds: 7 left out of the differences"]
    assert judge_table(read_table(file), "mha", paired=False).warnings == []


def test_arms_without_a_common_seed_are_refused_with_both_ways_out(file: Path) -> None:
    file.write_text(GOOD + "mqa,7,3\nmqa,8,3.1\n")
    with pytest.raises(UserError, match=r"no seed in common; number runs that share data and its order alike, or .* --unpaired"):
        judge_table(read_table(file), "mha")
    assert judge_table(read_table(file), "mha", paired=False).arms[2].judgement.p is not None


def test_an_unknown_baseline_and_an_arm_alone_are_refused(file: Path) -> None:
    file.write_text(GOOD)
    with pytest.raises(UserError, match="did you mean 'mha'"):
        judge_table(read_table(file), "mah")
    file.write_text("arm,seed,value\nmha,0,1\nmha,1,2\n")
    with pytest.raises(UserError, match="no other arm than 'mha'"):
        judge_table(read_table(file), "mha")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from(list('m0,"" \n')), min_size=1))
def test_every_field_of_a_row_has_a_place_wherever_its_quotes_stand(file: Path, text: str) -> None:
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines)
    first = 0
    for fields in reader:
        assert len(_places(file, lines, first, reader.line_num, ",")) == max(len(fields), 1)
        first = reader.line_num
