"""From a source to shards of documents."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmkit.core.component import Chosen, Component, Params
from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import HTML, Broken, Document, Source
from llmkit.core.kinds import Kind
from llmkit.data import reading
from llmkit.data.document_shards import read_groups
from llmkit.data.reading import ReadAccount, Reading
from llmkit.data.split import place_of
from llmkit.data.workers import Task


class Mixed(Source):
    """A hundred records: documents, pages, blank ones and broken ones. It fails after so many, as long as `fails_after` says so."""

    fails_after: int | None = None

    def documents(self, shard: int, of: int) -> Iterator[Document | Broken]:
        for number in range(shard, 100, of):
            if self.fails_after is not None and number >= self.fails_after:
                raise KeyboardInterrupt
            yield record(number)

    def fingerprint(self) -> str:
        return "mixed"


def record(number: int) -> Document | Broken:
    if number % 10 == 3:
        return Broken(f"file#{number}", "is no UTF-8", f"byte {number}", b"\xff" * 2000)
    if number % 10 == 7:
        return Document(str(number), " \n\t ")
    return Document(str(number), f"document {number} " * 20, "mixed", media_type=HTML if number % 10 == 5 else "text/plain")


def reading_of(shards: int = 1, strict: bool = False, name: str | None = None) -> Reading:
    return Reading(Chosen(Component(Kind.source, "test.mixed", Params, "test_reading:Mixed", "x"), Params()), name, shards, strict)


def read_all(directory: Path, tasks: list[Task]) -> list[Document]:
    accounts = [ReadAccount.model_validate_json(task.account(directory).read_text()) for task in tasks]
    names = [part.name for account in accounts for part in account.parts]
    return [row.document for name in names for rows in read_groups(directory / f"{name}.parquet") for row in rows]


@pytest.mark.parametrize("shards", [1, 3, 300])
def test_every_document_is_read_once_whatever_the_shards(tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_TASKS", 16)
    job = reading_of(shards)
    for task in job.tasks:
        job.run(tmp_path, task)
    expected = [found for number in range(100) if isinstance(found := record(number), Document) and found.text.strip()]
    found = read_all(tmp_path, job.tasks)
    assert sorted(found, key=lambda one: int(one.id)) == expected
    assert len(job.tasks) == min(shards, reading.MOST_TASKS)


def test_what_is_no_document_is_counted_and_kept_aside_with_its_reason(tmp_path: Path) -> None:
    reading_of().run(tmp_path, Task(0))
    (part,) = ReadAccount.model_validate_json((tmp_path / "00000.json").read_text()).parts
    assert part.records == 100 and part.broken == {"is no UTF-8": 10} and part.pages == 10
    assert part.read.reasons == {"is no UTF-8": 10, "blank": 10} and part.read.removed == 20
    assert part.read.before.documents == 100 and part.read.after.documents == 80 and part.first == "file#3: is no UTF-8 (byte 3)"
    lines = [json.loads(line) for line in (tmp_path / "00000-00000.broken.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"file#{number}" for number in range(3, 100, 10)]
    assert base64.b64decode(lines[0]["raw"]) == b"\xff" * reading.FIRST_BYTES


def test_the_first_broken_record_ends_it_where_it_is_strict(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source web: file#3: is no UTF-8 \(byte 3\); mend it, or leave --strict out"):
        reading_of(strict=True, name="web").run(tmp_path, Task(0))
    assert list(tmp_path.iterdir()) == []


def test_a_page_has_no_place_before_it_is_extracted(tmp_path: Path) -> None:
    reading_of().run(tmp_path, Task(0))
    for rows in read_groups(tmp_path / "00000-00000.parquet"):
        assert all(row.place == (0 if row.document.media_type == HTML else place_of(row.document.text)) for row in rows)


def test_documents_are_of_the_source_that_the_spec_names(tmp_path: Path) -> None:
    reading_of(name="books").run(tmp_path, Task(0))
    assert {document.source for document in read_all(tmp_path, [Task(0)])} == {"books"}


def test_a_killed_task_goes_on_after_its_last_whole_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHARD_BYTES", 4000)
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    for place in (undisturbed, disturbed):
        place.mkdir()
    reading_of().run(undisturbed, Task(0))
    for fails_after in (40, 41, 80):
        monkeypatch.setattr(Mixed, "fails_after", fails_after)
        with pytest.raises(KeyboardInterrupt):
            reading_of().run(disturbed, Task(0))
    kept = {path.name: path.stat().st_mtime_ns for path in disturbed.glob("*.parquet")}
    monkeypatch.setattr(Mixed, "fails_after", None)
    reading_of().run(disturbed, Task(0))
    assert len(kept) > 2 and kept.items() <= {path.name: path.stat().st_mtime_ns for path in disturbed.glob("*.parquet")}.items()
    pieces = [{path.name: path.read_bytes() for path in place.iterdir() if path.suffix != ".json"} for place in (undisturbed, disturbed)]
    assert pieces[0] == pieces[1]
