"""Filters that learn: once, and again where what they were made of changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmkit.core.component import Chosen, Component
from llmkit.core.interfaces.evaluator import Evaluator
from llmkit.core.interfaces.filter import Drop, Filter, FilterParams
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.data.prepare import Prepared, prepare

MakeSpec = Callable[..., Spec]


class Known(Filter):
    """Drops documents that are a reference, word for word."""

    learns = True
    reads_references = True
    version = "1"

    def learn(self, directory: Path, references: Iterable[Document]) -> dict[str, Any]:
        (directory / "deep").mkdir()
        texts = [f"{one.source}:{one.text}" for one in references]
        (directory / "deep/known.txt").write_text("\n".join(texts))
        LEARNED.append(texts)
        return {"references": len(texts), "nothing": float("nan")}

    def load(self, directory: Path) -> None:
        lines = (directory / "deep/known.txt").read_text().splitlines()
        self.known = {text: source for source, _, text in (line.partition(":") for line in lines)}

    def apply(self, document: Document) -> Document | Drop:
        return Drop(self.known[document.text]) if document.text in self.known else document

    def fingerprint(self) -> str:
        return self.version


class Quiz(Evaluator):
    """Two items."""

    items = ("line 7 of the text", "line 9 of the text")

    def references(self) -> Iterator[Document]:
        return (Document(str(number), text) for number, text in enumerate(self.items))


LEARNED: list[list[str]] = []


@pytest.fixture
def prepared(make_spec: MakeSpec) -> Callable[..., Prepared]:
    LEARNED.clear()
    chosen = {
        kind: Chosen(Component(kind, f"test.{name.lower()}", FilterParams, f"test_learning:{name}", "x"), FilterParams())
        for kind, name in ((Kind.filter, "Known"), (Kind.evaluator, "Quiz"))
    }

    def make(**data: Any) -> Prepared:
        spec = make_spec(data=data)
        filtered = spec.data.model_copy(update={"filters": {"known": chosen[Kind.filter]}})
        return prepare(spec.model_copy(update={"data": filtered, "eval": [chosen[Kind.evaluator]]}))

    return make


def test_the_evaluators_items_are_learned_and_left_out(prepared: Callable[..., Prepared]) -> None:
    stage = prepared().funnel.stages[1]
    assert [[f"test.quiz:{text}" for text in Quiz.items]] == LEARNED
    assert (stage.stage, stage.removed, stage.reasons) == ("filters.known", 2, {"test.quiz": 2})
    assert stage.figures == {"references": 2, "nothing": None}
    prepared()
    assert len(LEARNED) == 1


def test_it_is_learned_again_where_the_items_or_the_filter_changed(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared()
    monkeypatch.setattr(Quiz, "items", (*Quiz.items, "line 11 of the text"))
    second = prepared()
    assert [len(texts) for texts in LEARNED] == [2, 3] and second.funnel.stages[1].removed == 3
    monkeypatch.setattr(Known, "version", "2")
    third = prepared()
    assert len(LEARNED) == 3 and len({one.fingerprint for one in (first, second, third)}) == 3


def test_the_held_out_source_is_a_reference(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("line 5 of the text\nsomething else\n")
    found = prepared(holdout={"type": "text", "paths": [str(tmp_path / "held.txt")], "split": "line"})
    assert LEARNED[0][2:] == ["holdout:line 5 of the text", "holdout:something else"]
    assert found.funnel.stages[1].reasons == {"test.quiz": 2, "holdout": 1} and found.train.n_documents == 197


def test_where_a_filter_does_not_read_them_references_change_nothing(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Known, "reads_references", False)
    first = prepared()
    monkeypatch.setattr(Quiz, "items", ("others",))
    assert prepared().fingerprint == first.fingerprint and LEARNED == [[]]


def test_a_rewritten_document_keeps_its_id(prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Known, "apply", lambda self, document: replace(document, text=document.text.upper()))
    found = prepared()
    assert found.funnel.stages[1].rewritten == 200
    assert next(found.validation_documents()).text.startswith("LINE") and len(set(found.train.document_ids)) == found.train.n_documents
