"""The synthetic source: the same documents every time, in any number of shards, none of them ever asked."""

from __future__ import annotations

import pytest

from llmkit import catalog, load_spec
from llmkit.core.kinds import Kind
from llmkit.core.problems import SpecError
from llmkit.plugins.sources.components import SyntheticParams
from llmkit.plugins.sources.synthetic import Synthetic
from llmkit.plugins.tasks.mqar import Mqar
from llmkit.plugins.tasks.task import asked

TASKS = ["induction", "mqar", {"type": "copying", "blanks": 3}, {"type": "dyck", "length": 12, "separator": " "}]


def source(task: object, **params: int) -> Synthetic:
    component = catalog().find(Kind.source, "synthetic")
    made: Synthetic = component.resolve()(SyntheticParams.model_validate({"task": task, "documents": 200, **params}))
    return made


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_shards_together_are_the_whole_in_its_order(task: object) -> None:
    whole = list(source(task).documents(0, 1))
    shards = [list(source(task).documents(shard, 3)) for shard in range(3)]
    assert len(whole) == 200 and [document for row in zip(*shards) for document in row] == whole[:198]
    assert sorted(document.id for shard in shards for document in shard) == sorted(document.id for document in whole)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_more_documents_begin_with_the_same_ones_and_another_seed_makes_others(task: object) -> None:
    few = [document.text for document in source(task).documents(0, 1)]
    more = [document.text for document in source(task, documents=300).documents(0, 1)]
    others = [document.text for document in source(task, seed=1).documents(0, 1)]
    assert more[:200] == few and others != few


def test_the_fingerprint_tells_all_parameters_apart() -> None:
    made = [source("mqar"), source("mqar", seed=1), source("mqar", documents=201), source({"type": "mqar", "pairs": 9}), source("dyck")]
    assert len({one.fingerprint() for one in made}) == len(made)
    assert source("mqar").fingerprint() == source({"type": "mqar", "pairs": 8}).fingerprint()


def test_no_document_is_a_held_out_instance() -> None:
    task = {"type": "mqar", "pairs": 2, "keys": 2, "values": 3}
    written = {document.text for document in source(task, documents=2000).documents(0, 1)}
    held_out = {instance.text() for instance in asked(Mqar(pairs=2, keys=2, values=3), 0, 500)}
    # The task has 2 x 9 x 2 instances: all of them are on one side or the other.
    assert len(written) + len(held_out) == 36 and not written & held_out


def test_a_task_is_overridden_and_refused_by_its_address() -> None:
    spec = {"data": {"source": {"type": "synthetic", "task": "mqar"}}, "model": {"d_model": 16, "n_layers": 1, "max_seq_len": 8}}
    assert load_spec(spec, ["data.source.task.pairs=5"]).data.source.params.task.pairs == 5
    assert load_spec(spec, ["data.source.task=dyck"]).data.source.params.task.type == "dyck"
    with pytest.raises(SpecError, match=r"data\.source\.task.*length 7 is odd"):
        load_spec(spec, ["data.source.task={type: dyck, length: 7}"])
    with pytest.raises(SpecError, match="pears"):
        load_spec(spec, ["data.source.task.pears=5"])
