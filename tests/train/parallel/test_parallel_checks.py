"""What cannot be combined is refused with the names of both."""

import re

import pytest

from llmkit.core.errors import UserError
from llmkit.runtime import load_spec
from llmkit.train.loop import train
from llmkit.train.parallel.checks import check, check_model, check_ranks, plain


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["parallel.dp_shard=2", "train.optimizer=muon"], "optimizer 'muon' needs whole matrices, and parallel.dp_shard 2"),
        (["parallel.tp=2", "train.optimizer=adafactor"], "optimizer 'adafactor' needs whole matrices, and parallel.tp 2"),
        (["parallel.dp_shard=2", "train.precision=fp16"], "precision fp16"),
        (["parallel.tp=2", "train.compile=true"], "train.compile is not supported with parallel.tp 2"),
        (["parallel.cp=3"], "train.seq_len .* cannot be cut into parallel.cp 3"),
        (["parallel.cp=2", "train.objective=multi_token"], "objective 'multi_token' reads sequences whole"),
    ],
)
def test_a_combination_that_is_not_supported_is_named(overrides, said):
    with pytest.raises(UserError, match=said):
        check(load_spec("recipe:tiny", overrides))


def test_copies_of_the_whole_model_take_any_optimizer():
    spec = load_spec("recipe:tiny", ["parallel.dp_replicate=4", "train.optimizer=muon"])
    check(spec)
    assert plain(spec)


def test_ranks_that_the_degrees_do_not_multiply_to_are_refused_with_both_numbers():
    spec = load_spec("recipe:tiny", ["parallel.dp_shard=2", "parallel.tp=2"])
    with pytest.raises(UserError, match=re.escape("parallel asks for 4 ranks (dp_shard 2 x tp 2), and there are 3")):
        check_ranks(spec, 3)
    check_ranks(spec, 4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["parallel.pp=2"], "parallel.pp 2 needs a micro-batch for every stage.* 8 is 1; set train.micro_batch_size to 4"),
        (
            ["parallel.pp=4", "train.micro_batch_size=4"],
            "in micro-batches of 4 is 2; set train.micro_batch_size to 2, or parallel.schedule to gpipe",
        ),
        (["parallel.pp=2", "parallel.dp_shard=8"], "the 1 sequences that each of 8 data ranks has.*set train.batch_size to 16 or more"),
        (["parallel.pp=2", "parallel.dp_shard=2", "train.micro_batch_size=8", "train.batch_size=24"], "8 does not divide the 12 sequences"),
    ],
)
def test_a_pipeline_with_too_few_or_unequal_micro_batches_is_refused_with_the_number_that_would_do(overrides, said):
    spec = load_spec("recipe:tiny", overrides)
    with pytest.raises(UserError, match=said):
        check_ranks(spec, spec.parallel.ranks)


def test_gpipe_takes_any_number_of_micro_batches():
    check_ranks(load_spec("recipe:tiny", ["parallel.pp=2", "parallel.schedule=gpipe"]), 2)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["parallel.tp=2", "model.block.attention={type: mqa, n_heads: 4}"],
            "attention: kv_heads is 1, which parallel.tp 2 does not divide",
        ),
        (["parallel.tp=3", "model.block.attention={type: mha, n_heads: 4}"], "heads is 4, which parallel.tp 3 does not divide"),
        (["parallel.tp=2", "model.block.ffn.d_ff=345"], "ffn.* is 345, which parallel.tp 2 does not divide"),
        (["parallel.pp=8"], "model.n_layers 4 are fewer than the stages of parallel.pp 8"),
        (["parallel.pp=2", "train.objective=multi_token"], "train.objective has parameters of its own, which parallel.pp 2"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_before_anything_is_read(overrides, said):
    with pytest.raises(UserError, match=said):
        check_model(load_spec("recipe:tiny", overrides))


def test_ranks_that_are_not_there_are_told_before_the_text_is_read(tmp_path):
    spec = load_spec("recipe:tiny", ["parallel.tp=2", f"data.cache={tmp_path / 'cache'}"])
    with pytest.raises(UserError, match=re.escape("parallel asks for 2 ranks (tp 2), and there are 1")):
        train(spec, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
