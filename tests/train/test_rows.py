"""Files of rows that stay open."""

import json
import os
from pathlib import Path

import pytest

from llmkit.train.rows import RowFiles
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
        assert directory.rows("ledger") == [{"step": 1}, {"step": 2, "again": True}]


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
