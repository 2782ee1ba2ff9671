"""What cannot be combined is refused with the names of both."""

import re

import pytest

from llmkit.core.errors import UserError
from llmkit.runtime import load_spec
from llmkit.train.parallel.checks import check, check_ranks, plain


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
