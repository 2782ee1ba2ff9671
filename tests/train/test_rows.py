"""Files of rows that stay open."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.train.rows import BLOCK, RowFiles, end_of, rows_of, steps_told, whole_rows
from llmkit.train.run import RunDirectory


def test_a_row_is_in_the_file_when_append_returns_though_the_file_stays_open(tmp_path: Path):
    rows = RowFiles(tmp_path)
    for step in range(3):
        rows.append("metrics", {"step": step})
        assert [json.loads(line)["step"] for line in rows.path("metrics").read_text().splitlines()] == list(range(step + 1))
    rows.close()


def test_rows_go_to_the_file_that_has_the_name_now_after_a_run_was_cut(tmp_path: Path):
    with RunDirectory(tmp_path) as directory:
        for step in (1, 2, 3):
            directory.append("ledger", {"step": step})
        directory.cut(1)
        directory.append("ledger", {"step": 2, "again": True})
        assert [row for _, row in whole_rows(tmp_path / "ledger.jsonl")] == [{"step": 1}, {"step": 2, "again": True}]


def test_a_run_closes_its_files(tmp_path: Path):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with RunDirectory(tmp_path) as directory:
        directory.append("metrics", {"step": 1})
    assert not before or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_of_the_row_that_did_not_fit(tmp_path: Path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        RowFiles(tmp_path).append("metrics", {"step": 1})


def lines(steps: list[int], width: int) -> list[bytes]:
    """Rows of these steps, which ascend, of some width each."""
    return [
        (json.dumps({"step": step, "place": place, "items": "x" * (place * 37 % width)}) + "\n").encode()
        for place, step in enumerate(steps)
    ]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 60), max_size=120).map(sorted),
    asked=st.integers(0, 62),
    width=st.sampled_from([1, 2_000, 3 * BLOCK]),
    torn=st.sampled_from([b"", b'{"step": 61, "it', b"\0" * 5_000, b'\0\0\n{"step": 61}\n']),
)
def test_a_step_is_found_and_a_file_ends_where_reading_all_of_it_says(tmp_path_factory, steps, asked, width, torn):
    path = tmp_path_factory.mktemp("rows") / "metrics.jsonl"
    written = lines(steps, width)
    path.write_bytes(b"".join(written) + torn)
    told = [row for _, row in whole_rows(path)]
    assert rows_of(path, asked) == [row for row in told if row["step"] == asked]
    assert end_of(path, asked) == sum(len(line) for step, line in zip(steps, written, strict=True) if step <= asked) + (
        len(torn) if asked >= 61 and torn.endswith(b"}\n") else 0
    )
    assert steps_told(path) == ((told[0]["step"], told[-1]["step"]) if told else None)


@pytest.mark.parametrize(("known", "left"), [(0, []), (2, [5, 9]), (3, [5, 9, 7]), (4, [5, 9, 7])])
def test_of_spikes_as_many_stay_as_the_checkpoint_knows_of_in_whatever_order_their_steps_are(tmp_path: Path, known, left):
    (tmp_path / "spikes.jsonl").write_bytes(b"".join(lines([5, 9, 7], 1)) + b'{"step": 8')
    RunDirectory(tmp_path).cut(1, known)
    assert [row["step"] for _, row in whole_rows(tmp_path / "spikes.jsonl")] == left
    assert (tmp_path / "spikes.jsonl").read_bytes()[-1:] in (b"", b"\n")


def test_cutting_a_file_of_many_megabytes_reads_and_writes_little_of_it(tmp_path: Path, monkeypatch):
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines(list(range(1, 20_001)), 2_000)))
    read = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda line: read.append(len(line)) or loads(line))
    with RunDirectory(tmp_path) as directory:
        directory.cut(19_000)
        directory.append("ledger", {"step": 19_001})
    assert sum(read) < 12 * BLOCK < (tmp_path / "ledger.jsonl").stat().st_size / 10
    assert steps_told(tmp_path / "ledger.jsonl") == (1, 19_001)
