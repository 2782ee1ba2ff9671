"""The cache of prepared things."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.data.cache import SEAL, Cache, key_of


class Maker:
    """Fills a directory, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, draft: Path) -> None:
        self.calls += 1
        (draft / "a.bin").write_bytes(b"12345678")
        (draft / "b.json").write_text("{}")


def test_an_entry_is_made_once_and_then_reused(tmp_path: Path) -> None:
    make = Maker()
    places = [Cache(tmp_path / "cache").entry("tokens", "k", make) for _ in range(3)]
    assert make.calls == 1 and len(set(places)) == 1 and (places[0] / "a.bin").read_bytes() == b"12345678"


def test_what_fails_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        (draft / "a.bin").write_bytes(b"1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).entry("tokens", "k", fail)
    assert list((tmp_path / "tokens").iterdir()) == []


def truncated(place: Path) -> None:
    (place / "a.bin").write_bytes(b"123")


def modified(place: Path) -> None:
    (place / "a.bin").write_bytes(b"12345679")


def removed(place: Path) -> None:
    (place / "b.json").unlink()


def unsealed(place: Path) -> None:
    (place / SEAL).unlink()


def with_a_torn_seal(place: Path) -> None:
    (place / SEAL).write_text((place / SEAL).read_text()[:20])


@pytest.mark.parametrize("damage", [truncated, modified, removed, unsealed, with_a_torn_seal])
def test_a_damaged_entry_is_reported_and_made_again(tmp_path: Path, damage: object) -> None:
    make = Maker()
    place = Cache(tmp_path).entry("tokens", "k", make)
    damage(place)  # type: ignore[operator]
    with pytest.warns(UserWarning, match="is damaged .* made again"):
        again = Cache(tmp_path).entry("tokens", "k", make)
    assert make.calls == 2 and again == place and (place / "a.bin").read_bytes() == b"12345678"


def test_a_touched_file_with_the_same_content_is_no_damage(tmp_path: Path) -> None:
    make = Maker()
    place = Cache(tmp_path).entry("tokens", "k", make)
    os.utime(place / "a.bin", (0, 0))
    Cache(tmp_path).entry("tokens", "k", make)
    assert make.calls == 1


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "tokens/k.part").mkdir(parents=True)
    (tmp_path / "tokens/k.part/junk").write_text("x")
    place = Cache(tmp_path).entry("tokens", "k", Maker())
    assert sorted(path.name for path in place.iterdir()) == ["a.bin", "b.json", SEAL]
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["k"]


def test_processes_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from llmkit.data.cache import Cache
        def make(draft):
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write("made\\n")
            time.sleep(0.3)
            (draft / "a").write_text("x")
        print(Cache({str(tmp_path / "cache")!r}).entry("tokens", "k", make))
        """
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert len(outputs) == 1 and (tmp_path / "log").read_text() == "made\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache .*file.* cannot be written"):
        Cache(tmp_path / "file").entry("tokens", "k", Maker())


def test_a_key_hangs_on_the_facts_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1}) != key_of({"a": 1, "b": [3]})
