"""Rotary positions against published numbers, transformers, and the law they exist for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.component import Component
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.generate import generate
from llmkit.plugins.positions.components import RopeParams
from llmkit.plugins.positions.rope import Rope, attention_factor, document_lengths, frequencies
from llmkit.runtime import catalog, load_spec
from llmkit.testing import LawBroken, cases
from llmkit.testing import check as laws_of


def rope(width: int = 8, **params: Any) -> Rope:
    return Rope(RopeParams(**params), Site(d_model=32, width=width, n_layers=1, layer=0, max_seq_len=64, vocab_size=10, heads=4))


def small(params: dict[str, Any]) -> Spec:
    """Two layers of four heads of 8 channels, turned so."""
    model = {"d_model": 32, "n_layers": 2, "max_seq_len": 64, "position": {"type": "rope", **params}}
    block = {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": "rmsnorm"}
    return load_spec({"tokenizer": "bytes", "model": {**model, "block": block}})


def turns(params: RopeParams, width: int, length: int = 1) -> torch.Tensor:
    """Radians a token of every pair in a text of so many tokens."""
    found = frequencies(params, width, torch.arange(length)[None])
    return found if found.dim() == 1 else found[0, -1]


def check(found: torch.Tensor, expected: dict[int, float], rel: float) -> None:
    for index, value in expected.items():
        assert float(found[index]) == pytest.approx(value, rel=rel), index


def test_plain_frequencies_are_the_published_ones() -> None:
    published = {0: 1.0, 1: 0.86596, 2: 0.74989, 3: 0.64938, 16: 0.1, 32: 0.01, 63: 1.1548e-4}
    check(turns(RopeParams(), 128), published, 1e-5 * 2)


def test_yarn_frequencies_are_the_published_ones() -> None:
    params = RopeParams(scaling={"type": "yarn", "factor": 10.0, "original_max_seq_len": 2048})
    check(turns(params, 128), {17: 0.083479, 41: 2.7384e-4, 48: 1e-4, 63: 1.1548e-5}, 3e-5)
    assert attention_factor(params) == pytest.approx(0.1 * math.log(10) + 1)


def test_llama3_frequencies_are_the_published_ones() -> None:
    params = RopeParams(theta=5e5, scaling={"type": "llama3"})
    scaled, plain = turns(params, 128), turns(RopeParams(theta=5e5), 128)
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
        (
            {"type": "yarn", "factor": 40.0, "original_max_seq_len": 4096, "truncate": False},
            {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "truncate": False},
        ),
    ],
    ids=["linear", "llama3", "yarn", "yarn with everything", "yarn not truncated"],
)
def test_scaled_frequencies_are_those_of_transformers(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=512, num_attention_heads=4, max_position_embeddings=4096, rope_theta=10_000.0, rope_scaling=theirs
    )
    expected, factor = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, torch.device("cpu"))
    params = RopeParams(scaling=ours)
    torch.testing.assert_close(turns(params, 128), expected, rtol=1e-5, atol=0)
    assert attention_factor(params) == pytest.approx(factor)


def transformers_turns(rope_scaling: dict[str, Any], length: int, **config: Any) -> tuple[torch.Tensor, float]:
    """What transformers computes for a text of so many tokens."""
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    numbers: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 16, "rope_theta": 10_000.0}
    whole = transformers.LlamaConfig(**numbers | config, rope_scaling=rope_scaling)
    found, factor = ROPE_INIT_FUNCTIONS[rope_scaling["rope_type"]](whole, torch.device("cpu"), seq_len=length)
    return found, factor


LENGTHS = (1, 15, 16, 17, 18, 31, 64, 1000)


@pytest.mark.parametrize("length", LENGTHS)
def test_dynamic_frequencies_are_those_of_transformers_at_every_length(length: int) -> None:
    expected, _ = transformers_turns({"rope_type": "dynamic", "factor": 3.0}, length)
    params = RopeParams(scaling={"type": "dynamic", "factor": 3.0, "original_max_seq_len": 16})
    torch.testing.assert_close(turns(params, 16, length), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("given", [{}, {"attention_factor": 1.25}])
def test_longrope_frequencies_are_those_of_transformers_at_every_length(length: int, given: dict[str, float]) -> None:
    short, long = [1.0 + 0.1 * pair for pair in range(8)], [2.0 + 1.5 * pair for pair in range(8)]
    shared = {"short_factor": short, "long_factor": long, "factor": 8.0, **given}
    expected, factor = transformers_turns(
        {"rope_type": "longrope", "original_max_position_embeddings": 16, **shared}, length, max_position_embeddings=128
    )
    params = RopeParams(scaling={"type": "longrope", "original_max_seq_len": 16, **shared})
    torch.testing.assert_close(turns(params, 16, length), expected, rtol=1e-6, atol=0)
    assert attention_factor(params) == pytest.approx(factor)
    always = {use: RopeParams(scaling={"type": "longrope", "original_max_seq_len": 16, "use": use, **shared}) for use in ("short", "long")}
    torch.testing.assert_close(turns(always["long" if length > 16 else "short"], 16, 1), expected, rtol=1e-6, atol=0)


def test_phi3_in_transformers_has_the_same_cosines_below_and_beyond_the_original_context() -> None:
    pytest.importorskip("transformers")
    from transformers.models.phi3.configuration_phi3 import Phi3Config
    from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

    short, long = [1.0, 1.1, 1.2], [1.5, 3.0, 9.0]
    scaling = {"type": "longrope", "short_factor": short, "long_factor": long}
    sizes = {"max_position_embeddings": 64, "original_max_position_embeddings": 16, "pad_token_id": 0}
    config = Phi3Config(hidden_size=32, num_attention_heads=4, partial_rotary_factor=0.75, rope_scaling=dict(scaling), **sizes)
    theirs = Phi3RotaryEmbedding(config)
    ours = rope(8, fraction=0.75, scaling={**scaling, "original_max_seq_len": 16, "factor": 4.0})
    for length in (5, 16, 17, 64):
        places = torch.arange(length)[None]
        for name, expected in zip(("cos", "sin"), theirs(torch.zeros(1), places), strict=True):
            torch.testing.assert_close(ours.tables(places)[name][0], expected[..., :3], rtol=1e-5, atol=1e-6)


def test_ntk_divides_the_slowest_pair_by_the_factor_and_keeps_the_fastest() -> None:
    plain, scaled = turns(RopeParams(), 128), turns(RopeParams(scaling={"type": "ntk", "factor": 8.0}), 128)
    assert float(scaled[0]) == 1.0
    assert float(scaled[-1]) == pytest.approx(float(plain[-1]) / 8, rel=1e-5)
    assert bool((scaled[1:] < plain[1:]).all())


def test_dynamic_is_ntk_by_how_much_longer_the_text_is() -> None:
    dynamic = RopeParams(scaling={"type": "dynamic", "factor": 2.0, "original_max_seq_len": 16})
    ntk = RopeParams(scaling={"type": "ntk", "factor": 2.0 * 48 / 16 - 1})
    torch.testing.assert_close(turns(dynamic, 32, 48), turns(ntk, 32), rtol=1e-5, atol=0)


def test_each_document_has_the_length_of_its_own_text() -> None:
    padded, packed, far = [0, 0, 0, 1, 2, 3], [0, 1, 2, 0, 0, 1], [7, 8, 9, 10, 11, 12]
    found = document_lengths(torch.tensor([padded, packed, far]))
    assert found.tolist() == [[1, 1, 4, 4, 4, 4], [3, 3, 3, 1, 2, 2], [13] * 6]


GROWING = {
    "dynamic": {"type": "dynamic", "factor": 2.0, "original_max_seq_len": 4},
    "longrope": {
        "type": "longrope",
        "short_factor": [1.0, 1.5, 2.0, 3.0],
        "long_factor": [1.0, 3.0, 6.0, 8.0],
        "original_max_seq_len": 4,
        "factor": 2.0,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWING)
def test_a_scaling_by_length_keeps_every_law_where_most_texts_outgrow_the_original_context(name: str) -> None:
    results = laws_of(catalog().find("position", "rope"), {"scaling": GROWING[name]})
    assert [result for result in results if not result.passed] == []


class TakesAnyCache(Rope):
    """It forgets that cached keys were turned in a shorter text."""

    def refuses_cache(self, max_len: int) -> str | None:
        return None


class LooksAtTheWholeBatch(Rope):
    """It takes the longest document of the batch for the length of all."""

    def tables(self, positions: torch.Tensor) -> dict[str, torch.Tensor]:
        longest = super().tables(torch.arange(int(positions.amax()) + 1)[None])
        return {name: table[0, 0][positions][:, None] for name, table in longest.items()}


class RefusesShortCaches(Rope):
    """It refuses a cache and not a longer one."""

    def refuses_cache(self, max_len: int) -> str | None:
        return "too short" if max_len < 5 else None


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (TakesAnyCache, "cached_equals_uncached", r"in chunks of \[\d"),
        (LooksAtTheWholeBatch, "packed_documents_are_separate", "packed in a row differs from itself alone"),
        (RefusesShortCaches, "a_refused_cache_says_why", "refuses a cache of 3 positions and not one of 5"),
    ],
)
def test_a_scaling_by_length_that_is_careless_breaks_a_law(cls: type[Rope], law: str, says: str) -> None:
    rotates = frozenset({"rotate"})
    component = Component(Kind.position, "careless.rope", RopeParams, f"{__name__}:{cls.__name__}", "", needs=rotates, offers=rotates)
    given = {"careless.rope": [{"scaling": GROWING["dynamic"]}]}
    case = next(case for case in cases([component], catalog(), given) if case.law.name == law)
    with pytest.raises(LawBroken, match=says):
        case()


@pytest.mark.parametrize("name", GROWING)
def test_a_cache_that_may_outgrow_the_original_context_is_refused_with_the_remedy(name: str) -> None:
    model = build(small({"scaling": GROWING[name]}))
    caches = model.new_caches(batch=1, max_len=4)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        cached = torch.cat([model(ids[:, :3], caches=caches), model(ids[:, 3:], caches=caches)], dim=1)
        torch.testing.assert_close(cached, model(ids), rtol=1e-4, atol=1e-5)
    remedy = {"dynamic": "`ntk`", "longrope": "`use: long`"}[name]
    with pytest.raises(UserError, match=rf"cache of 5 positions is refused by positions.main: scaling '{name}'.* than 4 tokens.*{remedy}"):
        model.new_caches(batch=1, max_len=5)


def test_generation_beyond_the_original_context_is_refused_and_within_it_is_not() -> None:
    model = build(small({"scaling": GROWING["dynamic"]}))
    assert len(generate(model, [[5, 6]], max_new_tokens=2, temperature=0)[0]) == 2
    with pytest.raises(UserError, match="refused"):
        generate(model, [[5, 6]], max_new_tokens=3, temperature=0)


def test_a_longrope_with_the_same_factors_always_takes_caches_of_any_length() -> None:
    always = {**GROWING["longrope"], "use": "long"}
    assert rope(scaling=always).refuses_cache(1_000_000) is None
    short, long = torch.arange(3)[None], torch.arange(30)[None]
    assert torch.equal(rope(scaling=always).tables(short)["cos"], rope(scaling=always).tables(long)["cos"][:, :, :3])


@pytest.mark.parametrize("scaling", ["none", {"type": "linear", "factor": 4.0}, {"type": "ntk", "factor": 4.0}, "llama3"])
def test_what_does_not_ask_for_the_length_takes_caches_of_any_length(scaling: Any) -> None:
    assert rope(scaling=scaling).refuses_cache(1_000_000) is None


def test_a_fraction_turns_the_first_channels_alone_as_in_gpt_neox() -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb

    config = transformers.GPTNeoXConfig(hidden_size=128, num_attention_heads=4, rotary_pct=0.25)
    q, k, places = torch.randn(2, 4, 7, 32), torch.randn(2, 4, 7, 32), torch.arange(3, 10).expand(2, 7)
    expected = apply_rotary_pos_emb(q, k, *GPTNeoXRotaryEmbedding(config)(q, places))
    position = rope(32, fraction=0.25)
    tables = position.tables(places)
    width = position.rotary_width(32)
    assert width == 8
    for x, theirs in zip((q, k), expected, strict=True):
        ours = torch.cat([position.rotate(x[..., :width], tables), x[..., width:]], dim=-1)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"fraction": 0.4}, "3 of 8 channels"),
        ({"fraction": 0.1}, "0 of 8 channels"),
        ({"fraction": 0.25, "scaling": {"type": "ntk", "factor": 2.0}}, "'ntk' would do nothing"),
        ({"fraction": 0.5, "scaling": GROWING["longrope"]}, "4 factors, and a head of 4 of 8 channels .* is 2 pairs"),
    ],
)
def test_what_cannot_be_turned_is_refused_before_building(params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small(params)


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({**GROWING["longrope"], "long_factor": [1.0]}, "short_factor has 4 factors and long_factor 1"),
        ({**GROWING["longrope"], "use": "medium"}, "fitting"),
        ({"type": "dynamic", "factor": 2.0}, "original_max_seq_len"),
        ({"type": "spiral"}, "longrope"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused_where_it_is_written(scaling: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small({"scaling": scaling})


def test_a_scaling_by_name_is_the_scaling_with_its_defaults():
    from llmkit.plugins.positions.components import Llama3Scaling, NoScaling

    assert RopeParams.model_validate({"scaling": "none"}).scaling == NoScaling()
    assert RopeParams.model_validate({"scaling": "llama3"}).scaling == Llama3Scaling()
