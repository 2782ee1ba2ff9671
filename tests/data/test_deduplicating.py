"""Duplicates over several shards, against looking at every pair."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.component import Chosen, Component, Params
from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind
from llmkit.data.accounting import ShardAccount
from llmkit.data.deduplicating import Cutting, Found, Sketching, _mapped, resolve
from llmkit.data.document_shards import Row, ShardWriter, read_groups
from llmkit.data.workers import Task


class SameWords(Deduplicator):
    """Documents of the same set of words are one; the longest stays, and of these the first."""

    def sketch(self, documents: Sequence[Document]) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [np.array(sorted({hashed(word) for word in document.text.split()}), np.uint64) for document in documents]

    def resolve(self, sketches: Ragged, sizes: np.ndarray) -> Resolution:  # type: ignore[type-arg]
        best: dict[bytes, int] = {}
        for number in range(len(sketches)):
            key = sketches.row(number).tobytes()
            if key not in best or sizes[number] > sizes[best[key]]:
                best[key] = number
        return Resolution(np.array([best[sketches.row(number).tobytes()] for number in range(len(sketches))], np.int64))


class FirstWords(Deduplicator):
    """Words that an earlier document has are cut."""

    def sketch(self, documents: Sequence[Document]) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [np.array([hashed(unit) for unit in self.units(document.text)], np.uint64) for document in documents]

    def resolve(self, sketches: Ragged, sizes: np.ndarray) -> Resolution:  # type: ignore[type-arg]
        seen: set[int] = set()
        cuts = []
        for number in range(len(sketches)):
            row = [int(value) for value in sketches.row(number)]
            cuts.append([place for place, value in enumerate(row) if value in seen])
            seen.update(row)
        starts = np.cumsum([0, *map(len, cuts)])
        return Resolution(np.arange(len(sketches)), Ragged(np.array([place for cut in cuts for place in cut], np.uint64), starts))

    def units(self, text: str) -> list[str]:
        return [f"{word} " for word in text.split()]


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def chosen(name: str) -> Chosen:
    return Chosen(Component(Kind.deduplicator, f"test.{name}", Params, f"test_deduplicating:{name}", "x"), Params())


def deduplicated(directory: Path, shards: list[list[str]], name: str) -> tuple[list[str], list[ShardAccount], Found]:
    paths = tuple(directory / f"in-{index}.parquet" for index in range(len(shards)))
    number = 0
    for path, texts in zip(paths, shards, strict=True):
        with ShardWriter(path) as writer:
            for text in texts:
                writer.add(Row(Document(f"id {number}", text), number))
                number += 1
    sketches = directory / "sketches"
    sketches.mkdir()
    tasks = [Task(index) for index in range(len(shards))]
    for task in tasks:
        Sketching(paths, chosen(name)).run(sketches, task)
    found = resolve(chosen(name), sketches, len(shards), directory)
    first = tuple(int(one) for one in np.cumsum([0, *map(len, shards)])[:-1])
    cutting = Cutting("same", paths, chosen(name), first, directory, sketches)
    for task in tasks:
        cutting.run(directory, task)
    kept = [row.document.text for task in tasks for rows in read_groups(directory / f"{task.name}.parquet") for row in rows]
    return kept, [ShardAccount.model_validate_json(task.account(directory).read_text()) for task in tasks], found


texts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(" ".join)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(texts, max_size=5), min_size=1, max_size=4))
def test_of_each_cluster_one_stays_wherever_it_lies(tmp_path_factory: pytest.TempPathFactory, shards: list[list[str]]) -> None:
    everything = [text for shard in shards for text in shard]
    kept, accounts, found = deduplicated(tmp_path_factory.mktemp("d"), shards, "SameWords")
    clusters: dict[frozenset[str], list[str]] = {}
    for text in everything:
        clusters.setdefault(frozenset(text.split()), []).append(text)
    assert sorted(kept) == sorted(max(group, key=len) for group in clusters.values())
    sizes = [len(group) for group in clusters.values() if len(group) > 1]
    assert sorted(found.sizes.elements()) == sorted(sizes) and found.documents == len(everything)
    assert sorted((len(group) for group in found.largest), reverse=True) == sorted((min(size, 10) for size in sizes), reverse=True)
    removed = [one.sample for account in accounts for one in account.stages["deduplicators.same"].samples]
    assert len(removed) == len(everything) - len(kept)
    for sample in removed:
        assert sample.keeper is not None
        keeper = everything[int(sample.keeper.removeprefix("id "))]
        assert set(keeper.split()) == set(sample.text.split()) and sample.id != sample.keeper


def test_the_keeper_comes_first_in_a_cluster(tmp_path: Path) -> None:
    _, _, found = deduplicated(tmp_path, [["x", "a"], ["a a a", "a a"]], "SameWords")
    assert found.largest == [["id 2", "id 1", "id 3"]] and found.sizes == {3: 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_what_is_found_is_never_half_written_in_silence(tmp_path: Path) -> None:
    (tmp_path / "keeper.bin").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        deduplicated(tmp_path, [["x", "a"]], "SameWords")
    assert raised.value.errno == errno.ENOSPC


def test_units_that_are_there_already_are_cut_and_what_is_empty_then_goes(tmp_path: Path) -> None:
    kept, accounts, _ = deduplicated(tmp_path, [["a b", "a c"], [], ["c d a", "a b c"]], "FirstWords")
    assert kept == ["a b", "c ", "d "]
    stages = [account.stages["deduplicators.same"] for account in accounts]
    assert [(one.rewritten, one.removed) for one in stages] == [(1, 0), (0, 0), (1, 1)]
    assert stages[2].reasons == {"blank": 1} and stages[2].before.bytes == 10 and stages[2].after.bytes == 2


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what of a mapped file lies in memory")
def test_rows_of_a_file_that_were_released_lie_in_memory_no_more_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    np.arange(1 << 21, dtype="<u8").tofile(path)
    rows = _mapped(path, np.array([0, 1 << 20, 1 << 21]))
    total = int(rows.values.sum())
    assert _resident(path) > 15_000
    rows.release()
    assert _resident(path) < 1_000
    assert int(rows.values.sum()) == total == sum(int(rows.row(index).sum()) for index in range(2))


def _resident(path: Path) -> int:
    """Kilobytes of a mapped file that lie in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(int(next(line for line in lines if line.startswith("Rss:")).split()[1]) for line in lines if line.endswith(str(path)))
