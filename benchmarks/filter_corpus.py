"""Real documents of many kinds for the benchmark of filters: books, specifications, web pages, news, messages, stories."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

Named = tuple[str, str]
"""Where a document is from, and its text."""


def corpus(data: Path) -> list[Named]:
    """All documents, the same every time; blank ones left out."""
    parts = (_books, _peps, _web, _news, _messages, _stories, _pages, _sources)
    return [(part.__name__.strip("_"), text) for part in parts for text in part(data) if text.strip()]


def _books(data: Path) -> Iterator[str]:
    """Passages of some 2,500 characters, whole paragraphs: twelve of each book, at even steps."""
    with lzma.open(data / "classic-books/classic-books-pre1900.jsonl.xz", "rt", encoding="utf-8") as file:
        for line in file:
            passages = list(_passages(json.loads(line)["text"].replace("\r\n", "\n"), 2_500))
            yield from passages[:: max(len(passages) // 12, 1)][:12]


def _peps(data: Path) -> Iterator[str]:
    """Every PEP whole, and one of its passages."""
    with lzma.open(data / "peps/peps.jsonl.xz", "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["text"]
            yield text
            passages = list(_passages(text, 2_000))
            yield passages[len(passages) // 2]


def _web(data: Path) -> Iterator[str]:
    """Web documents that people called good or bad."""
    seen: set[str] = set()
    for name in ("majority", "agreement"):
        with gzip.open(data / f"dclm-quality/{name}_data.jsonl.gz", "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
        yield from (text for text in texts if text not in seen)
        seen.update(texts)


def _news(data: Path) -> Iterator[str]:
    with gzip.open(data / "dedup-minhash-articles/articles_1000.train.gz", "rt", encoding="utf-8") as file:
        yield from (line.partition(" ")[2] for line in file)


def _messages(data: Path) -> Iterator[str]:
    """Text messages, eight a document, a line each."""
    lines = (data / "sms-spam/SMSSpamCollection").read_text(encoding="utf-8", errors="replace").splitlines()
    texts = [line.partition("\t")[2] for line in lines]
    yield from ("\n".join(texts[start : start + 8]) for start in range(0, len(texts), 8))


def _stories(data: Path) -> Iterator[str]:
    yield from _passages((data / "tinystories-sample/tinystories.txt").read_text(encoding="utf-8"), 1_000)


def _pages(data: Path) -> Iterator[str]:
    """Web pages: the main content, and all text with menus and footers."""
    for page in _html(data / "html-warc"):
        html = bytes_to_str(page, detect_encoding(page))
        yield extract_plain_text(html, main_content=True)
        yield extract_plain_text(html)


def _sources(data: Path) -> Iterator[str]:
    """The pages' own source, tags and scripts included: no text that anybody would train on, but hard to cut."""
    yield from (bytes_to_str(page, detect_encoding(page)) for page in _html(data / "html-warc"))


def _html(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                if "html" in (record.http_content_type or ""):
                    yield record.reader.read()
    with tarfile.open(folder / "trafilatura-cc-pages.tar.xz") as archive:
        for member in archive:
            if member.name.endswith(".html") and (file := archive.extractfile(member)) is not None:
                yield file.read()


def _passages(text: str, characters: int) -> Iterator[str]:
    """Whole paragraphs, so many that they have at least `characters`."""
    passage = ""
    for paragraph in text.split("\n\n"):
        passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        if len(passage) >= characters:
            yield passage
            passage = ""
    if passage:
        yield passage
