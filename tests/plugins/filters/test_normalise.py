"""The filter `normalise`."""

from __future__ import annotations

import unicodedata
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.normalise import Normalise
from llmkit.plugins.filters.rule_components import NormaliseParams

ftfy = pytest.importorskip("ftfy")


def normalised(text: str, **params: Any) -> str:
    return Normalise(NormaliseParams(**params)).normalised(text)


@pytest.mark.parametrize("sound", ["“Naïve” café — 20 €, voilà", "Größe", "Привет, мир"])
@pytest.mark.parametrize("wrong", ["windows-1252", "latin-1"])
def test_text_that_was_decoded_wrongly_is_mended(sound: str, wrong: str) -> None:
    garbled = sound.encode("utf-8").decode(wrong, errors="ignore" if wrong == "windows-1252" else "strict")
    if garbled.encode(wrong, errors="ignore") != sound.encode("utf-8"):
        pytest.skip("cp1252 has no character for one of these bytes")
    assert normalised(garbled) == sound
    assert normalised(garbled, mojibake=False, unicode=None, control_characters=False, whitespace=False) == garbled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\ntwo\rthree\u2028four\x0cfive", "one\ntwo\nthree\nfour\nfive"),
        ("a  \nb\t\n c", "a\nb\n c"),
        ("a\n\n\n\n\n\nb\n\n\nc\n\n", "a\n\n\nb\n\n\nc"),
        ("a\u00a0b\u2009c", "a b c"),
        ("    indented\n\tcode", "    indented\n\tcode"),
        ("\ufeffbyte\x00 order\x1b[31m mark\x1b[0m", "byte order mark"),
        ("e\u0301", "é"),
        ("one\ud800two", "one\ufffdtwo"),
        ("R&amp;D", "R&D"),
        ("<b>R&amp;D</b>", "<b>R&amp;D</b>"),
        ("“curly”, ﬁ, Ｗ", "“curly”, ﬁ, Ｗ"),  # noqa: RUF001
    ],
)
def test_what_reads_the_same_becomes_the_same(text: str, expected: str) -> None:
    assert normalised(text) == expected


@given(st.text(max_size=60) | st.text(alphabet="aé&<;\n\r \t\x00\x1b[0m\u0301â€œ", max_size=40))
def test_mending_line_by_line_is_what_ftfy_does_with_the_whole(text: str) -> None:
    config = ftfy.TextFixerConfig(
        uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, fix_line_breaks=False, normalization=None
    )
    assert normalised(text, unicode=None, control_characters=False, whitespace=False) == ftfy.fix_text(text, config)


@given(st.text(max_size=60) | st.text(alphabet="a \n\r\t\x85\u00a0e\u0301\x1b[0m", max_size=40))
def test_once_is_enough(text: str) -> None:
    once = normalised(text, mojibake=False)
    assert normalised(once, mojibake=False) == once
    assert unicodedata.is_normalized("NFC", once) and "\r" not in once and "\x00" not in once


def test_a_sound_text_is_the_same_document() -> None:
    document = Document("id", "As it should be.\n\nÀ propos.")
    assert Normalise(NormaliseParams()).apply(document) is document
    assert normalised("ﬁ", unicode="NFKC") == "fi"


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\t"])
def test_a_long_run_of_blanks_within_a_line_takes_no_longer_than_other_text(blank: str) -> None:
    text = f"one{blank * 300_000}two{blank * 3}\nthree"
    began = process_time()
    assert normalised(text, mojibake=False) == f"one{(' ' if blank != chr(9) else blank) * 300_000}two\nthree"
    assert process_time() - began < 5
