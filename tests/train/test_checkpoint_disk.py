"""A disk that is full or may not be written to: the run keeps what it has, the message says what to do, and then the same command goes on.

Where the tests may mount, the disk is a small one of its own; elsewhere a limit on the size of files, and a directory's permissions.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening import Listening

import llmkit
from llmkit.core.errors import UserError
from llmkit.train.checkpoint import listed
from llmkit.train.loop import train

DISK = "2m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or mount(place, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"):
        pytest.skip("this process may not mount a disk; root in a container that allows it may")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount(place: Path, *options: str) -> int:
    return subprocess.run(["mount", *options, str(place)], capture_output=True).returncode


@pytest.fixture
def six(tiny) -> dict[str, Any]:
    """The tiny spec with every checkpoint kept: each takes half a megabyte."""
    tiny["train"] |= {"checkpoint_every": 1, "steps": 6}
    return tiny


def steps_told(run: Path) -> list[int]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if "loss" in row]


def content(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_on_a_disk_that_fills_up_keeps_its_checkpoints_and_goes_on_once_there_is_space(six, disk):
    words = rf"cannot write .*{disk}/run.*No space left on device.*free some space on its disk, then run the same command again"
    with pytest.raises(UserError, match=words):
        train(llmkit.load_spec(six), out=disk / "run")
    kept = listed(disk / "run" / "checkpoints")
    assert kept and all(one.damage() is None for one in kept)
    assert mount(disk, "-o", "remount,size=16m") == 0
    assert train(llmkit.load_spec(six), out=disk / "run")["resumed_from"] == kept[0].step
    assert steps_told(disk / "run") == list(range(1, 7)) and not list((disk / "run").rglob(".*"))


def test_a_run_on_a_disk_that_became_read_only_says_so_and_is_as_it_was(six, disk):
    assert mount(disk, "-o", "remount,size=16m") == 0
    train(llmkit.load_spec(six), out=disk / "run")
    before = content(disk / "run")
    six["train"]["steps"] = 7
    assert mount(disk, "-o", "remount,ro") == 0
    with pytest.raises(UserError, match=r"cannot write the run .*Read-only file system.*make its directory one that you may write to"):
        train(llmkit.load_spec(six), out=disk / "run")
    assert content(disk / "run") == before
    assert mount(disk, "-o", "remount,rw") == 0
    assert train(llmkit.load_spec(six), out=disk / "run")["resumed_from"] == 6


def test_a_directory_without_permission_is_refused_with_what_to_do(six, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"Permission denied.*or choose another directory with --out"):
        train(llmkit.load_spec(six), out=tmp_path / "closed" / "run")


def test_a_run_whose_latest_checkpoint_was_deleted_goes_on_from_the_one_before_and_says_what_is_made_again(six, tmp_path):
    first = train(llmkit.load_spec(six), out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    listening = Listening()
    again = train(llmkit.load_spec(six), out=tmp_path / "run", reporter=listening)
    assert (again["resumed_from"], again["train_loss"]) == (5, first["train_loss"])
    assert any("going on from step 5" in text for text in listening.said) and steps_told(tmp_path / "run") == list(range(1, 7))
