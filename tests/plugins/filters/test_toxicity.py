"""Offensive passages are found, whatever the length of the text around them."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters import toxicity as module
from llmkit.plugins.filters.learned_components import ToxicityParams
from llmkit.plugins.filters.toxicity import Toxicity

pytest.importorskip("profanity_check")
SHARED = Path(__file__).parents[3] / "../shared/data"
INSULT = "You are a stupid fucking idiot and nobody likes your ugly face, go to hell, you worthless piece of shit."
PROSE = "The harbour was quiet when the first boats came in, and the nets were almost empty, but nobody spoke of it on the quay. "


def toxicity(**params: Any) -> Toxicity:
    return Toxicity(ToxicityParams(**params))


def test_an_insult_goes_and_prose_stays() -> None:
    document = Document("prose", PROSE * 3)
    assert toxicity().apply(document) is document
    assert toxicity().apply(Document("insult", INSULT)) == Drop("most", 1.0, 0.1)


def test_the_statistic_is_the_part_of_the_passages_that_are_toxic() -> None:
    text = PROSE * 9 + "quay . . . . . . . . . . . . " + INSULT
    words = len(text.split())
    made = toxicity(words=20)
    from profanity_check import predict_prob

    passages = [" ".join(text.split()[start : start + 20]) for start in range(0, words, 20)]
    expected = (predict_prob(passages) >= 0.8).mean()
    assert 0 < expected < 0.3
    assert made.measure(Document("page", text))["toxic_passages"] == pytest.approx(expected)


def test_a_long_text_is_held_to_the_same_as_a_short_one() -> None:
    made = toxicity()
    assert isinstance(made.apply(Document("book", (PROSE * 40 + INSULT) * 20)), Document)
    assert isinstance(made.apply(Document("rant", INSULT * 400)), Drop)


def test_text_without_a_word_stays() -> None:
    assert toxicity().measure(Document("blank", " \n ")) == {"toxic_passages": 0.0}


def test_a_package_that_is_not_there_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with pytest.raises(UserError, match=r"needs alt-profanity-check, which is not installed .*pip install 'llmkit\[toxicity\]'"):
        toxicity()


def test_a_scikit_learn_that_the_classifier_was_not_made_with_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.base

    for name in [name for name in sys.modules if name.startswith("profanity_check")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sklearn.base, "__version__", "0.0")
    with pytest.raises(UserError, match=r"cannot use alt-profanity-check [\d.]+ with this scikit-learn .*pip install"):
        toxicity()


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_a_short_story_of_1908_stays() -> None:
    text = (SHARED / "the-verdict/the-verdict.txt").read_text(encoding="utf-8")
    assert toxicity().measure(Document("the-verdict", text))["toxic_passages"] < 0.05
