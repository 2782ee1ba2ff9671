"""The source `warc`: archives, whole and damaged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.source import HTML, PLAIN, Broken, Document, Skipped
from llmkit.plugins.sources.components import WarcParams
from llmkit.plugins.sources.warc import Warc
from llmkit.plugins.sources.warc_records import records_of

ARCHIVES = Path(__file__).parents[3] / "../shared/data/html-warc"
HTTP = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"


def record(
    number: int, body: bytes | None = None, kind: str = "response", head: str = HTTP, length: int | None = None, **more: str
) -> bytes:
    data = head.encode() + (f"<html><body><p>page {number}</p></body></html>".encode() if body is None else body)
    fields = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{number}>", "WARC-Target-URI": f"https://example.org/{number}", **more}
    if head:
        fields["Content-Type"] = "application/http"
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value)
    return f"WARC/1.0\r\n{lines}Content-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data + b"\r\n\r\n"


def read(path: Path, data: bytes, **params: object) -> list[Document | Broken]:
    path.write_bytes(data)
    return list(Warc(WarcParams(paths=[str(path)], **params)).documents(0, 1))  # type: ignore[arg-type]


def told(records: list[Document | Broken]) -> list[str]:
    """Numbers of the pages that were read, and the reasons of what was not."""
    return [one.text.split("page ")[1][0] if isinstance(one, Document) else one.reason for one in records]


WRONG = "is cut off, or has a wrong Content-Length"
DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[str]]] = {
    "none": (lambda whole: whole, ["0", "1", "2", "3"]),
    "too long a length": (lambda whole: [whole[0], record(1, length=5000), *whole[2:]], ["0", WRONG, "2", "3"]),
    "a length into the next record": (lambda whole: [whole[0], record(1, length=150), *whole[2:]], ["0", WRONG, "2", "3"]),
    "a length of petabytes": (lambda whole: [whole[0], record(1, length=10**15), *whole[2:]], ["0", "is longer than max_bytes", "2", "3"]),
    "too short a length": (lambda whole: [whole[0], record(1, length=60), *whole[2:]], ["0", WRONG, "2", "3"]),
    "a length that is no number": (
        lambda whole: [whole[0], whole[1].replace(b"Length: ", b"Length: -"), *whole[2:]],
        ["0", "is no WARC record", "2", "3"],
    ),
    "no length": (lambda whole: [whole[0], whole[1].replace(b"Content-Length", b"X"), *whole[2:]], ["0", "is no WARC record", "2", "3"]),
    "a page without HTTP": (lambda whole: [whole[0], record(1, head="garbage"), *whole[2:]], ["0", "has no HTTP head", "2", "3"]),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("packed", ["plain", "a member a record", "one member"])
def test_a_damaged_record_is_told_and_the_next_is_read(tmp_path: Path, name: str, packed: str) -> None:
    damage, expected = DAMAGE[name]
    records = damage([record(number) for number in range(4)])
    if packed == "plain":
        found = read(tmp_path / "x.warc", b"".join(records))
    else:
        data = b"".join(map(gzip.compress, records)) if packed == "a member a record" else gzip.compress(b"".join(records))
        found = read(tmp_path / "x.warc.gz", data)
    assert told(found) == expected


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda member: b"garbage", "is no gzip, or damaged"),
        (lambda member: member[:60], "is no gzip, or damaged"),
        (lambda member: member[:40] + b"\0\0\0" + member[43:], "is no gzip, or damaged"),
        (lambda member: member[:-8] + bytes(8), "is no gzip, or damaged"),
    ],
    ids=["garbage", "cut", "bytes changed", "checksum wrong"],
)
def test_a_damaged_gzip_member_is_told_and_the_next_is_read(tmp_path: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    members = [gzip.compress(record(number)) for number in range(4)]
    found = told(read(tmp_path / "x.warc.gz", members[0] + damage(members[1]) + members[2] + members[3]))
    assert [one for one in found if one in "0123"] in (["0", "2", "3"], ["0", "1", "2", "3"]) and reason in found


@pytest.mark.parametrize("ending", [".warc", ".warc.gz"])
def test_an_archive_may_be_cut_anywhere(tmp_path: Path, ending: str) -> None:
    records = [record(number) for number in range(3)]
    members = [gzip.compress(one) for one in records] if ending.endswith("gz") else records
    data = b"".join(members)
    for length in range(1, len(data), 7):
        found = told(read(tmp_path / f"x{ending}", data[:length]))
        pages = [one for one in found if one in "0123"]
        assert pages == ["0", "1", "2"][: len(pages)] and len(found) - len(pages) <= 1
        # Only where a cut leaves whole records, or nothing but the mark behind the last one, is nothing missing.
        packed = [sum(map(len, parts[: len(pages)])) for parts in (members, records)]
        assert len(found) > len(pages) or length in (packed[0], *range(packed[1] - 4, packed[1] + 3))


@given(
    hit=st.integers(0, 5),
    random=st.randoms(use_true_random=False),
    size=st.integers(0, 40),
    kind=st.sampled_from(["flip", "cut", "insert"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_to_one_member_all_others_are_read(
    tmp_path_factory: pytest.TempPathFactory, hit: int, random: Random, size: int, kind: str
) -> None:
    pages = {str(number): f"<p>page {number} {random.random()}</p>" * random.randint(1, 90) for number in range(6)}
    records = [record(int(number), page.encode()) for number, page in pages.items()]
    members = [gzip.compress(one) for one in records]
    damaged = bytearray(members[hit])
    at = random.randrange(len(damaged))
    if kind == "flip":
        damaged[at] ^= 1 << random.randrange(8)
    else:
        damaged[at : at + size * (kind == "cut")] = random.randbytes(size * (kind == "insert"))
    path = tmp_path_factory.mktemp("warc") / "x.warc.gz"
    found = read(path, b"".join([*members[:hit], bytes(damaged), *members[hit + 1 :]]))
    texts = {one.text.split("page ")[1][0]: one.text for one in found if isinstance(one, Document)}
    assert all(text == pages[number] for number, text in texts.items())
    assert set(pages) - set(texts) <= {str(hit)}
    assert str(hit) in texts or any(isinstance(one, Broken) for one in found)


def test_empty_archives_and_what_is_none(tmp_path: Path) -> None:
    assert told(read(tmp_path / "x.warc", b"")) == ["is empty"]
    assert told(read(tmp_path / "x.warc.gz", b"")) == ["is empty"]
    assert told(read(tmp_path / "x.warc.gz", gzip.compress(b""))) == ["is empty"]
    assert told(read(tmp_path / "x.warc", b"a text\n" * 9)) == ["is no WARC record"]
    assert told(read(tmp_path / "x.warc.gz", b"a text\n" * 9)) == ["is no gzip, or damaged"]


def test_what_is_no_page_is_skipped_and_counted(tmp_path: Path) -> None:
    records = [
        record(0),
        record(1, head="HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n"),
        record(2, head="HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n"),
        record(3, kind="request", head="GET / HTTP/1.1\r\n\r\n", body=b""),
        record(4, kind="revisit"),
        record(5, kind="warcinfo", head="", body=b"software: x\r\n"),
        record(6, head="HTTP/1.1 200 OK\r\n\r\n"),
    ]
    found = read(tmp_path / "x.warc", b"".join(records))
    assert told(found) == ["0", "has another status than 200", "is no HTML", "is a revisit", "6"]
    assert all(isinstance(one, Skipped) for one in found[1:4]) and found[1].detail == "404 for https://example.org/1"  # type: ignore[union-attr]


def test_a_page_has_its_address_its_name_and_its_encoding(tmp_path: Path) -> None:
    russian = "<html><body>Съешь же ещё этих мягких французских булок</body></html>"
    head = HTTP.replace("utf-8", "windows-1251")
    found = read(
        tmp_path / "x.warc", record(7, russian.encode("windows-1251"), head=head, WARC_Date="2024-01-01T00:00:00Z", WARC_Truncated="length")
    )
    meta = {"url": "https://example.org/7", "date": "2024-01-01T00:00:00Z", "truncated": "length"}
    assert found == [Document("<urn:uuid:7>", russian, "warc", "", meta, HTML)]
    nameless = read(tmp_path / "x.warc", record(7).replace(b"WARC-Record-ID", b"WARC-Nothing"))
    assert nameless[0].id == f"https://example.org/7@{tmp_path / 'x.warc'}#0"


def test_wet_files_are_text(tmp_path: Path) -> None:
    found = read(
        tmp_path / "x.warc.wet",
        record(1, "one\nnaïve 世界".encode(), kind="conversion", head="") + record(2, b"\xff", kind="conversion", head=""),
    )
    assert isinstance(found[0], Document) and (found[0].text, found[0].media_type) == ("one\nnaïve 世界", PLAIN)
    assert isinstance(found[1], Broken) and found[1].reason == "is no UTF-8"


def test_transport_is_undone_whether_the_header_is_true_or_not(tmp_path: Path) -> None:
    head = HTTP.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n")
    chunked = HTTP.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = b"<html><body>page 0</body></html>"
    records = [
        record(0, gzip.compress(body), head=head),
        record(0, head=head),
        record(0, b"20\r\n" + body + b"\r\n0\r\n\r\n", head=chunked),
    ]
    records.append(record(0, gzip.compress(body)[:12] + bytes(range(20)), head=head))
    assert told(read(tmp_path / "x.warc", b"".join(records))) == ["0", "0", "0", "cannot be decoded"]


def test_a_page_that_decompresses_to_gigabytes_is_set_aside(tmp_path: Path) -> None:
    head = HTTP.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n")
    found = read(tmp_path / "x.warc", record(0, gzip.compress(bytes(100_000_000)), head=head) + record(1), max_bytes=200_000)
    assert told(found) == ["is longer than max_bytes", "1"]


def test_a_record_that_is_too_long_is_never_held(tmp_path: Path) -> None:
    records = [record(0), record(1, b"x" * 5_000_000), record(2)]
    found = read(tmp_path / "x.warc.gz", b"".join(map(gzip.compress, records)), max_bytes=100_000)
    assert told(found) == ["0", "is longer than max_bytes", "2"]


@pytest.mark.skipif(not ARCHIVES.exists(), reason="the archives lie beside the repository, and not here")
def test_records_of_real_archives_are_those_that_fastwarc_reads() -> None:
    for path in sorted(ARCHIVES.glob("*.warc.gz")):
        with path.open("rb") as file:
            expected = [
                (one.record_id, one.reader.read()) for one in ArchiveIterator(file, parse_http=False, record_types=WarcRecordType.response)
            ]
        ours = [one.data for one in records_of(path, 1 << 30) if one.fault is None and b"WARC-Type: response" in one.data[:400]]
        assert [data.partition(b"\r\n\r\n")[2] for data in ours] == [body for _, body in expected] and expected
        assert [one.id for one in Warc(WarcParams(paths=[str(path)])).documents(0, 1)] == [name for name, _ in expected]
