"""The recipes of probes: valid, in documents that no window cuts where all are of one length; they tell architectures apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit import build, load_spec
from llmkit.core.interfaces.evaluator import Score
from llmkit.core.spec import Spec
from llmkit.model.decoder import Decoder
from llmkit.model.language_model import ModelLM
from llmkit.plugins.tasks.task import instances
from llmkit.train.loop import train
from llmkit.train.run import load_run

RECIPES = ["induction", "mqar", "copying", "dyck"]


def probed(spec: Spec, model: Decoder) -> dict[str, Score]:
    tokenizer = spec.tokenizer.component.resolve().train(spec.tokenizer.params, ())
    lm = ModelLM(model, tokenizer, seq_len=spec.seq_len)
    return {f"{one.type}.{score.metric}": score for one in spec.eval for score in one.make()(lm).scores}


@pytest.mark.parametrize("name", RECIPES)
def test_a_probe_recipe_is_valid_and_its_untrained_model_knows_nothing(name: str) -> None:
    spec = load_spec(f"recipe:probes/{name}")
    assert spec.name == name and spec.eval[0].type == name
    found = probed(spec, build(spec))
    assert found[f"{name}.accuracy"].value < 0.4 and found[f"{name}.exact"].value == 0


@pytest.mark.parametrize("name", ["mqar"])
def test_documents_of_one_length_fill_a_window_exactly(name: str) -> None:
    spec = load_spec(f"recipe:probes/{name}")
    lengths = {len(one.symbols) + 1 for one in instances(spec.data.source.params.task, 0, held_out=False, indices=range(20))}
    assert len(lengths) == 1 and spec.seq_len % lengths.pop() == 0


@pytest.mark.slow
def test_a_window_of_four_tokens_does_not_copy_what_whole_attention_copies(tmp_path: Path) -> None:
    accuracy = {}
    for arm, overrides in (("whole", []), ("window", ["model.block.attention.window=4"])):
        short = ["train.steps=300", "data.source.documents=8000", f"data.cache={tmp_path / 'cache'}", *overrides]
        spec = load_spec("recipe:probes/copying", short)
        train(spec, out=tmp_path / arm)
        accuracy[arm] = probed(spec, load_run(tmp_path / arm).model)["length_extrapolation.accuracy_at_1x"].value
    assert accuracy["whole"] > 0.6 > 0.4 > accuracy["window"]
