"""The source `html`, and how the encoding of a page is found."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from llmkit.core.interfaces.source import HTML, Broken, Document
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.charset import page_text
from llmkit.plugins.sources.components import HtmlParams
from llmkit.plugins.sources.html import Html

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. Широкая электрификация южных губерний."
JAPANESE = "いろはにほへと ちりぬるを 我が世たれぞ 常ならむ 有為の奥山 今日越えて 浅き夢見じ 酔ひもせず"
GERMAN = "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg. „Öfter ärgern“ ist schön."


def page(text: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head>{head}<title>x</title></head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "windows-1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "euc-jp"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "iso-2022-jp"),
        (GERMAN, "windows-1252"),
        (GERMAN, "utf-8"),
    ],
)
@pytest.mark.parametrize("said", ["by the server", "in the page", "in http-equiv"])
def test_a_declared_encoding_is_read(text: str, encoding: str, said: str) -> None:
    heads = {
        "by the server": "",
        "in the page": f"<meta charset='{encoding}'>",
        "in http-equiv": f'<META http-equiv=Content-Type content="text/html; charset={encoding}">',
    }
    whole = page(text, heads[said])
    assert page_text(whole.encode(encoding), encoding if said == "by the server" else None) == whole


@pytest.mark.parametrize(("text", "encoding"), [(RUSSIAN, "windows-1251"), (JAPANESE, "shift_jis"), (GERMAN, "utf-8")])
def test_an_encoding_that_nobody_declared_is_detected(text: str, encoding: str) -> None:
    assert page_text(page(text).encode(encoding)) == page(text)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE)]
)
def test_a_byte_order_mark_goes_before_what_is_said(encoding: str, mark: bytes) -> None:
    assert page_text(mark + page(RUSSIAN).encode(encoding), "windows-1251") == page(RUSSIAN)


def test_what_is_declared_wrongly_is_read_as_what_it_is() -> None:
    assert page_text(page(GERMAN, "<meta charset=utf-8>").encode("windows-1252")) == page(GERMAN, "<meta charset=utf-8>")
    assert page_text(page(RUSSIAN, "<meta charset=utf-16>").encode()) == page(RUSSIAN, "<meta charset=utf-16>")
    assert page_text(page(RUSSIAN, "<meta charset=nonsense>").encode()) == page(RUSSIAN, "<meta charset=nonsense>")


def test_one_bad_byte_does_not_make_another_encoding_of_a_page() -> None:
    data = page(RUSSIAN).encode()
    assert page_text(data[:200] + b"\xff" + data[200:], "utf-8").count("\ufffd") in (1, 2, 3)
    cut = page(RUSSIAN).encode()[:120]
    assert page_text(cut, "utf-8").rstrip("\ufffd") == cut.decode(errors="ignore")


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3", b"<p>a\0b</p>"])
def test_what_is_no_text_is_told(data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"is no text|holds NUL bytes"):
        page_text(data)


def test_pages_are_documents_of_html_named_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(page(GERMAN), encoding="utf-8")
    (tmp_path / "b.html").write_bytes(b"%PDF-1.4")
    (tmp_path / "c.html").write_bytes(b"<p>" + b"x" * 2000)
    found = list(Html(HtmlParams(paths=[str(tmp_path / "*.html")], max_bytes=1000, licence="CC-BY-4.0")).documents(0, 1))
    assert found[0] == Document(str(tmp_path / "a.html"), page(GERMAN), "html", "CC-BY-4.0", {}, HTML)
    assert [record.reason for record in found[1:] if isinstance(record, Broken)] == ["is no text", "is longer than max_bytes"]


def test_pages_are_read_anew_by_another_version_of_what_detects_their_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text(page(GERMAN), encoding="utf-8")
    source = Html(HtmlParams(paths=[str(tmp_path / "*.html")]))
    first = source.fingerprint()
    assert Html(source.params).fingerprint() == first
    monkeypatch.setattr("llmkit.plugins.sources.files.installed", lambda name: f"{name} 99")
    assert Html(source.params).fingerprint() != first
