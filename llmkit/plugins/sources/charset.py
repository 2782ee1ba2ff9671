"""The text of a page whose encoding is declared, wrongly declared, or not at all."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from llmkit.core.errors import UserError
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.files import without_nul

META = re.compile(rb"<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
LOOKED_AT = 4096
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
WRONG = 20
"""An encoding does not fit where more than one of so many bytes above ASCII has no meaning in it."""
ASCII = bytes(range(128))


def page_text(data: bytes, declared: str | None = None) -> str:
    """The characters of a page.

    declared  what the server said, where one did

    In this order, the first that fits: a byte order mark, what the server said, what the page's `meta` says, UTF-8, what its bytes look
    like. A byte that has no meaning becomes U+FFFD. Raises `Unreadable` for what is no text: an image, a PDF.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return without_nul(data[len(mark) :].decode(encoding, "replace"))
    _check_text(data)
    above = len(data.translate(None, ASCII))
    text = ""
    for encoding in _candidates(data, declared):
        text = data.decode(encoding, "replace")
        if text.count("\ufffd") * WRONG <= above:
            break
    return without_nul(text)


def _candidates(data: bytes, declared: str | None) -> Iterator[str]:
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    names = [declared] if declared else []
    if found := META.search(data, 0, LOOKED_AT):
        names.append(found[1].decode("ascii"))
    for name in names:
        known = map_encoding_to_html5(name, fallback_utf8=False)
        # A page that could be read so far as to find this in ASCII is in no UTF-16: HTML takes it for UTF-8.
        if known:
            yield "utf-8" if known.startswith("utf-16") else str(known)
    yield "utf-8"
    yield str(detect_encoding(data))


def _check_text(data: bytes) -> None:
    try:
        from resiliparse.parse.encoding import detect_mime
    except ImportError:
        raise UserError("pages of HTML need resiliparse; pip install 'llmkit[data]'") from None
    kind = detect_mime(data)
    # It takes text in Asian and Cyrillic encodings for an octet stream: only what it recognises is believed.
    if not kind.startswith("text/") and kind not in ("application/octet-stream", "application/xml", "application/xhtml+xml"):
        raise Unreadable("is no text", f"it looks like {kind}")
