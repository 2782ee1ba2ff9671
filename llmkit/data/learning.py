"""Filters that learn, before the first document: once, and kept by what they were made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmkit.core.component import Chosen
from llmkit.core.interfaces.evaluator import Evaluator
from llmkit.core.interfaces.filter import Filter
from llmkit.core.interfaces.source import Document
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.data.cache import Cache, key_of
from llmkit.data.cleaning import FilterStage

HOLDOUT = "holdout"
LEARNED = "learned"
FIGURES = "figures.json"


@dataclass(frozen=True)
class References:
    """What must not be trained on: the items of the spec's evaluators, and the held-out text where it is a source of its own.

    held_out      its documents
    held_out_key  changes where they do; None where there is none
    """

    spec: Spec
    held_out: Callable[[], Iterator[Document]]
    held_out_key: str | None

    def documents(self) -> Iterator[Document]:
        """All of them; `source` is the evaluator's name, or `holdout`."""
        yield from self._items()
        if self.held_out_key is not None:
            yield from (replace(document, source=HOLDOUT) for document in self.held_out())

    def key(self) -> str:
        """Changes where they do."""
        digest = hashlib.sha256(f"{self.held_out_key}".encode())
        for item in self._items():
            digest.update(json.dumps([item.source, item.id, item.text]).encode())
        return digest.hexdigest()

    def _items(self) -> Iterator[Document]:
        for chosen in self.spec.eval:
            evaluator: Evaluator = chosen.make()
            for item in evaluator.references():
                yield replace(item, source=chosen.type)


def facts_of(name: str, chosen: Chosen, references: References) -> dict[str, Any]:
    """All that decides what a filter does with a document."""
    made: Filter = chosen.make()
    return {
        "name": name,
        **plain(chosen),
        "revision": chosen.component.revision,
        "fingerprint": made.fingerprint(),
        "references": references.key() if made.learns and made.reads_references else None,
    }


def stage_of(name: str, chosen: Chosen, references: References, cache: Cache) -> FilterStage:
    """A filter of the spec, which has learned what it has to."""
    made: Filter = chosen.make()
    if not made.learns:
        return FilterStage(name, chosen)

    def learn(draft: Path) -> None:
        (draft / LEARNED).mkdir()
        figures = made.learn(draft / LEARNED, references.documents() if made.reads_references else ())
        (draft / FIGURES).write_text(json.dumps(figures) + "\n", encoding="utf-8")

    facts = facts_of(name, chosen, references)
    facts.pop("name")
    return FilterStage(name, chosen, cache.entry("filters", key_of(facts), learn) / LEARNED)


def figures_of(stage: FilterStage) -> dict[str, Any]:
    """What a filter reported when it learned."""
    if stage.learned is None:
        return {}
    return dict(json.loads((stage.learned.parent / FIGURES).read_text(encoding="utf-8")))
