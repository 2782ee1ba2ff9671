"""Web archives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import HTML, Document, Skipped
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.charset import page_text
from llmkit.plugins.sources.components import WarcParams
from llmkit.plugins.sources.files import Files, Records, broken, text_of
from llmkit.plugins.sources.pieces import Piece
from llmkit.plugins.sources.warc_records import records_of

TYPE = re.compile(rb"^warc-type:[ \t]*(\w+)", re.IGNORECASE | re.MULTILINE)
HEAD = 1 << 16
PAGES = ("text/html", "application/xhtml+xml")
FOUND = 200
GZIP = b"\x1f\x8b"


class Warc(Files):
    """The pages of an archive: responses of HTML with status 200, and of WET files the text that was extracted before.

    A document's id is the record's own, or where it has none, its address with the file and the byte at which it begins. `meta` has its
    address (`url`) and its date. Other responses are skipped and counted; requests and records about records are no pages.
    """

    called = "warc"
    pattern = "*.warc.gz"
    package = "resiliparse"
    params: WarcParams

    def read(self, path: Path) -> Records:
        for record in records_of(path, self.params.max_bytes):
            place = f"{path}#{record.place}"
            if record.fault is not None:
                yield broken(place, record.fault, record.data)
                continue
            kind = TYPE.search(record.data, 0, HEAD)
            if kind is None or kind[1].lower() not in (b"response", b"conversion", b"revisit"):
                continue
            try:
                yield self._document(place, record.data, kind[1].lower())
            except Unreadable as error:
                yield broken(place, error, record.data)

    def _document(self, place: str, data: bytes, kind: bytes) -> Document | Skipped:
        if kind == b"revisit":
            return Skipped(place, "is a revisit", "the page is in another record")
        record, payload = _parsed(data, self.params.max_bytes)
        url = str(record.headers.get("WARC-Target-URI") or "").strip("<>")
        meta = {"url": url, "date": str(record.headers.get("WARC-Date") or "")}
        name = record.record_id or f"{url}@{place}"
        if kind == b"conversion":
            return Document(name, text_of(Piece(0, payload, len(payload))), "warc", self.params.licence, meta)
        if record.http_headers is None or record.http_headers.status_code is None:
            raise Unreadable("has no HTTP head")
        if record.http_headers.status_code != FOUND:
            return Skipped(place, "has another status than 200", f"{record.http_headers.status_code} for {url}")
        if not _is_page(record.http_content_type, payload):
            return Skipped(place, "is no HTML", f"{record.http_content_type} for {url}")
        if len(payload) > self.params.max_bytes:
            raise Unreadable("is longer than max_bytes", "decompressed")
        if record.headers.get("WARC-Truncated"):
            meta["truncated"] = str(record.headers.get("WARC-Truncated"))
        return Document(name, page_text(payload, record.http_charset), "warc", self.params.licence, meta, HTML)


def _parsed(data: bytes, limit: int) -> tuple[Any, bytes]:
    """A record, and its payload without the encodings of its transport; of one that is longer than the limit a byte more than that."""
    try:
        from fastwarc.warc import WarcRecord
    except ImportError:
        raise UserError("web archives need fastwarc; pip install 'llmkit[data]'") from None
    for decode in ("all", "none"):
        try:
            record = WarcRecord.from_bytes(data)
            record.parse_http(auto_decode=decode, quirks_mode=True)
            payload: bytes = record.reader.read(limit + 1)
        except OSError as error:
            fault = error
            continue
        # Many archives keep the body decoded, and the header that says it is not.
        if decode == "all" or not payload.startswith(GZIP):
            return record, payload
    raise Unreadable("cannot be decoded", str(fault)) from fault


def _is_page(content_type: str | None, payload: bytes) -> bool:
    if content_type:
        return content_type.lower() in PAGES
    return b"<html" in payload[:1024].lower() or b"<!doctype html" in payload[:1024].lower()
