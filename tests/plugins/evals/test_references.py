"""What the probes ask is told to whoever must keep it out of the training text."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit import catalog
from llmkit.core.interfaces.evaluator import Evaluator
from llmkit.core.interfaces.source import Source
from llmkit.core.kinds import Kind
from llmkit.plugins.tasks.task import asked

PROBES = ("induction", "mqar", "copying", "dyck")


def evaluator(name: str, **params: Any) -> Evaluator:
    component = catalog().find(Kind.evaluator, name)
    made: Evaluator = component.resolve()(component.params.model_validate(params))
    return made


@pytest.mark.parametrize("name", PROBES)
def test_the_references_of_a_probe_are_the_instances_that_it_asks(name: str) -> None:
    made = evaluator(name, instances=9, seed=4)
    texts = [instance.text(made.params.separator) for instance in asked(made.params, 4, 9)]
    assert [(item.id, item.text) for item in made.references()] == [(str(index), text) for index, text in enumerate(texts)]


@pytest.mark.parametrize("name", PROBES)
def test_no_source_of_the_task_writes_a_reference(name: str) -> None:
    component = catalog().find(Kind.source, "synthetic")
    source: Source = component.resolve()(component.params.model_validate({"task": name, "documents": 500}))
    written = {document.text for document in source.documents(0, 1)}  # type: ignore[union-attr]
    assert not written & {item.text for item in evaluator(name).references()}


def test_the_references_of_length_extrapolation_are_those_of_every_factor_each_with_its_own_id() -> None:
    made = evaluator("length_extrapolation", task={"type": "copying", "length": 6}, factors=[1, 3], instances=5)
    found = list(made.references())
    assert [item.id for item in found] == [f"{factor}x/{index}" for factor in (1, 3) for index in range(5)]
    assert len(found[-1].text) > 2 * len(found[0].text)


def test_an_evaluator_without_items_of_its_own_has_no_references() -> None:
    assert list(evaluator("perplexity").references()) == []
