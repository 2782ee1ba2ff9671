"""Rotary positions against published numbers, transformers, and the law they exist for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.site import Site
from llmkit.plugins.positions.components import RopeParams
from llmkit.plugins.positions.rope import Rope, attention_factor, frequencies


def rope(width: int = 8, **params: Any) -> Rope:
    return Rope(RopeParams(**params), Site(d_model=32, width=width, n_layers=1, layer=0, max_seq_len=64, vocab_size=10, heads=4))


def check(found: torch.Tensor, expected: dict[int, float], rel: float) -> None:
    for index, value in expected.items():
        assert float(found[index]) == pytest.approx(value, rel=rel), index


def test_plain_frequencies_are_the_published_ones() -> None:
    published = {0: 1.0, 1: 0.86596, 2: 0.74989, 3: 0.64938, 16: 0.1, 32: 0.01, 63: 1.1548e-4}
    check(frequencies(RopeParams(), 128), published, 1e-5 * 2)


def test_yarn_frequencies_are_the_published_ones() -> None:
    params = RopeParams(scaling={"type": "yarn", "factor": 10.0, "original_max_seq_len": 2048})
    check(frequencies(params, 128), {17: 0.083479, 41: 2.7384e-4, 48: 1e-4, 63: 1.1548e-5}, 3e-5)
    assert attention_factor(params) == pytest.approx(0.1 * math.log(10) + 1)


def test_llama3_frequencies_are_the_published_ones() -> None:
    params = RopeParams(theta=5e5, scaling={"type": "llama3"})
    scaled, plain = frequencies(params, 128), frequencies(RopeParams(theta=5e5), 128)
    assert torch.equal(scaled[:29], plain[:29])
    check(scaled, {29: 0.002166570763503359, 30: 0.0013718935677611381, 31: 8.567514129e-4}, 1e-5)
    torch.testing.assert_close(scaled[35:], plain[35:] / 8, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"type": "linear", "factor": 3.0}, {"rope_type": "linear", "factor": 3.0}),
        (
            {"type": "llama3", "factor": 8.0, "original_max_seq_len": 512},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 512,
            },
        ),
        (
            {"type": "yarn", "factor": 4.0, "original_max_seq_len": 512},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
        ),
        (
            {"type": "yarn", "factor": 16.0, "original_max_seq_len": 256, "beta_fast": 20.0, "beta_slow": 2.0, "attention_factor": 1.5},
            {
                "rope_type": "yarn",
                "factor": 16.0,
                "original_max_position_embeddings": 256,
                "beta_fast": 20.0,
                "beta_slow": 2.0,
                "attention_factor": 1.5,
            },
        ),
    ],
    ids=["linear", "llama3", "yarn", "yarn with everything"],
)
def test_scaled_frequencies_are_those_of_transformers(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=512, num_attention_heads=4, max_position_embeddings=4096, rope_theta=10_000.0, rope_scaling=theirs
    )
    expected, factor = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, torch.device("cpu"))
    params = RopeParams(scaling=ours)
    torch.testing.assert_close(frequencies(params, 128), expected, rtol=1e-5, atol=0)
    assert attention_factor(params) == pytest.approx(factor)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@settings(max_examples=25, deadline=None)
@given(shift=st.integers(0, 1000), query=st.integers(0, 60), key=st.integers(0, 60))
def test_scores_depend_on_the_distance_alone(layout: str, shift: int, query: int, key: int) -> None:
    position = rope(layout=layout)
    q, k = torch.randn(1, 2, 1, 8, dtype=torch.float32), torch.randn(1, 2, 1, 8)

    def score(at: int) -> torch.Tensor:
        turned = (position.rotate(x, position.tables(torch.tensor([[where + at]]))) for x, where in ((q, query), (k, key)))
        return torch.linalg.vecdot(*turned)

    torch.testing.assert_close(score(0), score(shift), atol=2e-3, rtol=2e-3)


def test_layouts_are_permutations_of_each_other() -> None:
    half, interleaved = rope(layout="half"), rope(layout="interleaved")
    x, positions = torch.randn(2, 3, 5, 8), torch.arange(5).expand(2, 5)
    to_pairs = torch.arange(8).view(2, 4).t().flatten()
    turned = half.rotate(x, half.tables(positions))
    again = interleaved.rotate(x[..., to_pairs], interleaved.tables(positions))
    torch.testing.assert_close(again, turned[..., to_pairs])


def test_tables_are_fp32_and_queries_keep_their_dtype() -> None:
    position = rope()
    tables = position.tables(torch.tensor([[70_000, 70_001]]))
    assert {table.dtype for table in tables.values()} == {torch.float32}
    assert not torch.equal(tables["cos"][..., 0, :], tables["cos"][..., 1, :])
    assert position.rotate(torch.randn(1, 1, 2, 8, dtype=torch.bfloat16), tables).dtype == torch.bfloat16


def test_an_odd_head_is_refused_before_building() -> None:
    site = Site(d_model=15, width=5, n_layers=1, layer=0, max_seq_len=64, vocab_size=10, heads=3)
    assert any("5" in problem for problem in RopeParams().check(site))


def test_a_scaling_by_name_is_the_scaling_with_its_defaults():
    from llmkit.plugins.positions.components import Llama3Scaling, NoScaling

    assert RopeParams.model_validate({"scaling": "none"}).scaling == NoScaling()
    assert RopeParams.model_validate({"scaling": "llama3"}).scaling == Llama3Scaling()
