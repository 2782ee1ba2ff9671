"""What ranks would hold and send, against the numbers that the formulas and the published sizes give."""

import json
import subprocess
import sys

import pytest

from llmkit.core.errors import UserError
from llmkit.runtime import load_spec
from llmkit.train.parallel.account import RankAccount, account

PARAMETERS = 8_030_261_248
"""Of Llama 3 8B, as published."""
BF16, FP32 = 2, 4


def llama(*overrides: str) -> list[RankAccount]:
    return account(load_spec("recipe:llama3-8b", ["train.precision=bf16", "train.batch_size=512", "train.micro_batch_size=1", *overrides]))


def test_shards_of_llama_8b_over_64_ranks_hold_a_64th_and_send_by_the_ring():
    (one,) = llama("parallel.dp_shard=64")
    assert one.parameters == pytest.approx(PARAMETERS / 64, rel=1e-3)
    assert (one.weights, one.gradients, one.optimizer) == (one.parameters * 4, one.parameters * 4, one.parameters * 8)
    assert one.reduce_scatter == pytest.approx(PARAMETERS * FP32 * 63 / 64, rel=1e-6)
    outside = 2 * 128_256 * 4096 + 4096
    layers = PARAMETERS - outside
    assert one.all_gather == pytest.approx(8 * (2 * layers + outside) * BF16 * 63 / 64, rel=1e-6)
    assert (one.all_reduce, one.point_to_point) == (0, 0)


def test_tensor_parallel_sums_activations_twice_a_layer_each_way():
    (one,) = llama("parallel.dp_shard=64", "parallel.tp=8")
    activations = 8 * 8192 * 4096 * BF16
    assert one.all_reduce == pytest.approx(32 * 4 * 2 * activations * 7 / 8, rel=1e-6)


def test_copies_reduce_the_gradients_of_their_shards():
    (one,) = llama("parallel.dp_replicate=4", "parallel.dp_shard=16")
    assert one.all_reduce == pytest.approx(2 * PARAMETERS * FP32 / 16 * 3 / 4, rel=1e-6)


def test_context_parallel_gathers_keys_and_values_of_every_layer():
    apart, together = llama("parallel.dp_shard=8")[0], llama("parallel.dp_shard=4", "parallel.cp=2")[0]
    keys = 32 * 8192 * 2 * 1024 * BF16
    outside = 2 * 128_256 * 4096 + 4096
    parameters = (2 * (PARAMETERS - outside) + outside) * BF16 * 7 / 8
    assert apart.all_gather == pytest.approx(64 * parameters, rel=1e-6)
    assert together.all_gather == pytest.approx(128 * (parameters + keys / 2), rel=1e-6)


def test_4096_ranks_of_16_layers_of_llama_405b_hold_all_of_it_once_and_speak_only_with_neighbours_along_the_pipeline():
    overrides = ["parallel.dp_replicate=4", "parallel.dp_shard=16", "parallel.tp=8", "parallel.pp=8", "model.n_layers=16"]
    stages = account(load_spec("recipe:llama3.1-405b", [*overrides, "train.batch_size=512", "train.micro_batch_size=1"]))
    assert [one.layers for one in stages] == [f"{2 * stage}-{2 * stage + 1}" for stage in range(8)]
    norms, tables = 2 * 16_384, 2 * 128_256 * 16_384
    layer = (405_853_388_800 - tables - 16_384) // 126
    whole, uncut = tables + 16_384 + 16 * layer, tables + 16_384 + 16 * norms
    assert sum(one.parameters for one in stages) == pytest.approx(((whole - uncut) / 8 + uncut) / 16, rel=1e-4)
    assert stages[0].point_to_point * 2 == stages[1].point_to_point == 2 * 8 * 131_072 * 16_384 * BF16


def test_a_batch_that_the_ranks_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"train.batch_size 512 cannot be shared evenly by 7 data ranks \(dp_replicate 1 x dp_shard 7\)"):
        llama("parallel.dp_shard=7")


def test_build_tells_it_as_a_table_and_as_json():
    command = [sys.executable, "-m", "llmkit", "build", "recipe:tiny", "--parallel", "dp_shard=2,pp=2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [one["stage"] for one in json.loads(done.stdout)["ranks"]] == [0, 1]
