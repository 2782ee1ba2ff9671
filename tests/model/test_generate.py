"""Generation, against the model run in full for every token and against sampling written here in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch._dynamo.testing import CompileCounter

from llmkit import build, load_spec
from llmkit.core.errors import UserError
from llmkit.model import generate as generation
from llmkit.model.decoder import Decoder
from llmkit.model.generate import candidates, draw, generate

VOCABULARY = 258
PROMPTS = [[1, 2, 3], [4], list(range(20, 39)), [7, 7]]


def decoder(position: str = "rope", **attention: Any) -> Decoder:
    """A model whose logits are far apart, so that rounding decides nothing."""
    block = {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, **attention}, "ffn": {"type": "swiglu", "d_ff": 48}}
    document = {"tokenizer": "bytes", "model": {"d_model": 32, "n_layers": 2, "max_seq_len": 48, "position": position, "block": block}}
    model = build(load_spec(document), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


@pytest.fixture(scope="module")
def model() -> Decoder:
    return decoder()


def greedy_without_cache(model: Decoder, prompt: list[int], new: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(new):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("position", "attention"),
    [("rope", {}), ("rope", {"window": 5}), ("learned", {}), ("alibi", {}), ("alibi", {"window": 3}), ("none", {})],
)
def test_greedy_takes_the_argmax_of_the_full_forward_in_every_row(position: str, attention: dict[str, Any]) -> None:
    model = decoder(position, **attention)
    made = generate(model, PROMPTS, max_new_tokens=25, temperature=0)
    assert made == [greedy_without_cache(model, prompt, 25) for prompt in PROMPTS]
    assert len({token for row in made for token in row}) > 10


@settings(max_examples=10, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9), min_size=1, max_size=4), seed=st.integers(0, 2**40)
)
def test_a_row_does_not_depend_on_its_neighbours(model: Decoder, prompts: list[list[int]], seed: int) -> None:
    distinct = [list(prompt) for prompt in dict.fromkeys(map(tuple, prompts))]
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0.8, "top_p": 0.95, "seed": seed}
    assert generate(model, distinct, **options) == [generate(model, [prompt], **options)[0] for prompt in distinct]


def test_equal_prompts_differ_and_the_first_is_what_it_would_be_alone(model: Decoder) -> None:
    made = generate(model, [[5, 6]] * 4, max_new_tokens=12)
    assert len(set(map(tuple, made))) == 4
    assert generate(model, [[5, 6]], max_new_tokens=12) == made[:1]


def test_the_same_seed_gives_the_same_text_and_another_another(model: Decoder) -> None:
    first, again, other = (generate(model, PROMPTS, max_new_tokens=10, seed=seed) for seed in (3, 3, 4))
    assert first == again and all(a != b for a, b in zip(first, other, strict=True))


def test_sampling_touches_no_global_random_state(model: Decoder) -> None:
    before = torch.get_rng_state()
    generate(model, PROMPTS, max_new_tokens=3)
    assert torch.equal(before, torch.get_rng_state())


def test_top_k_of_one_and_a_small_top_p_and_a_temperature_near_zero_are_greedy(model: Decoder) -> None:
    greedy = generate(model, PROMPTS, max_new_tokens=10, temperature=0)
    assert generate(model, PROMPTS, max_new_tokens=10, top_k=1) == greedy
    assert generate(model, PROMPTS, max_new_tokens=10, top_p=1e-9) == greedy
    assert generate(model, PROMPTS, max_new_tokens=10, temperature=1e-300) == greedy


def test_a_row_ends_before_its_stop_token_and_the_others_go_on(model: Decoder) -> None:
    free = generate(model, PROMPTS, max_new_tokens=20, temperature=0)
    stop = free[0][4]
    stopped = generate(model, PROMPTS, max_new_tokens=20, temperature=0, stop_ids={stop})
    assert stopped == [row[: row.index(stop)] if stop in row else row for row in free]
    assert len(stopped[0]) <= 4 and any(len(row) == 20 for row in stopped)


def test_ids_beyond_the_vocabulary_are_never_generated(model: Decoder) -> None:
    made = generate(model, PROMPTS, max_new_tokens=28, temperature=50.0, vocab_limit=9)
    assert {token for row in made for token in row} == set(range(9))


def test_every_token_is_told_as_it_is_made(model: Decoder) -> None:
    told: list[tuple[int, int]] = []
    made = generate(model, PROMPTS, max_new_tokens=5, on_token=lambda row, token: told.append((row, token)))
    assert [row for row, _ in told] == [0, 1, 2, 3] * 5
    assert [[token for row, token in told if row == wanted] for wanted in range(4)] == made


def test_a_prompt_read_in_pieces_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (decoder(), decoder(window=5)):
        whole = generate(model, PROMPTS, max_new_tokens=10, temperature=0)
        monkeypatch.setattr(generation, "PREFILL_TOKENS", 12)
        assert generate(model, PROMPTS, max_new_tokens=10, temperature=0) == whole
        monkeypatch.undo()


def test_all_decoding_steps_have_the_same_shapes(model: Decoder) -> None:
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append((*args[0].shape, *kwargs["positions"].shape)), with_kwargs=True
    )
    stop = generate(model, PROMPTS, max_new_tokens=2, temperature=0)[0][1]
    shapes.clear()
    generate(model, PROMPTS, max_new_tokens=9, temperature=0, stop_ids={stop})
    hook.remove()
    assert shapes == [(4, 19, 4, 19)] + [(4, 1, 4, 1)] * 8


def test_every_module_is_in_its_mode_again_even_after_a_mistake(model: Decoder) -> None:
    model.train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    seen: list[bool] = []

    def interrupt(row: int, token: int) -> None:
        seen.append(any(module.training for module in model.modules()) or torch.is_grad_enabled())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, [[1]], max_new_tokens=2, on_token=interrupt)
    assert seen == [False] and [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    model.train()


def test_no_prompts_and_no_new_tokens_give_nothing(model: Decoder) -> None:
    assert generate(model, [], max_new_tokens=5) == []
    assert generate(model, [[1], [2]], max_new_tokens=0) == [[], []]


@pytest.mark.parametrize(
    ("prompts", "options", "says"),
    [
        ([[1], []], {}, "prompt 2 of 2 has no token"),
        (
            [[1] * 40],
            {"max_new_tokens": 9},
            "40 tokens, and 9 new ones would make 49.* 48; ask for at most 8 new tokens, or shorten the prompt to 39",
        ),
        ([[1] * 48], {"max_new_tokens": 1}, "48 tokens, and 1 new ones would make 49.*; shorten the prompt to 47 tokens"),
        ([[1]], {"max_new_tokens": 48}, "ask for at most 47 new tokens$"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens is -1"),
        ([[1]], {"temperature": -0.5}, "temperature is -0.5; it must be 0"),
        ([[1]], {"temperature": float("nan")}, "temperature is nan"),
        ([[1]], {"top_k": 0}, "top_k is 0; it must be 1"),
        ([[1]], {"top_p": 0.0}, "top_p is 0; it must be above 0"),
        ([[1]], {"top_p": 1.5}, "top_p is 1.5"),
        ([[1]], {"min_p": -0.1}, "min_p is -0.1; it must be between 0 and 1"),
        ([[1]], {"repetition_penalty": 0.0}, "repetition_penalty is 0; it must be above 0"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(model: Decoder, prompts: list[list[int]], options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        generate(model, prompts, **{"max_new_tokens": 1, **options})


def test_a_row_may_fill_the_model_to_its_last_position(model: Decoder) -> None:
    assert generate(model, [[1] * 40], max_new_tokens=8, temperature=0) == [greedy_without_cache(model, [1] * 40, 8)]


def test_a_diverged_model_is_told_apart_from_one_that_writes_nonsense() -> None:
    model = decoder()
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match="not numbers"):
        generate(model, [[1]], max_new_tokens=1)


LOGITS = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=st.floats(-20, 20, width=32), unique=True)


def numpy_candidates(logits: Any, temperature: float, top_k: int | None, top_p: float | None) -> Any:
    """One row's distribution over the vocabulary, in float64 and one token at a time: temperature, then top_k, then top_p."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])[:top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / temperature)
    shares = weights / weights.sum()
    kept, mass = [], 0.0
    for token, share in zip(order, shares, strict=True):
        kept.append((token, share))
        mass += share
        if top_p is not None and mass >= top_p:
            break
    distribution = np.zeros(len(logits))
    for token, share in kept:
        distribution[token] = share / mass
    return distribution


@settings(max_examples=200, deadline=None)
@given(
    logits=LOGITS,
    temperature=st.floats(0.1, 10),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_the_candidates_are_those_of_an_independent_sampler(
    logits: Any, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    probabilities, ids = candidates(torch.from_numpy(logits), temperature=temperature, top_k=top_k, top_p=top_p)
    spread = torch.zeros(logits.shape).scatter_(1, ids, probabilities).double().numpy()
    for found, row in zip(spread, logits, strict=True):
        expected = numpy_candidates(row, temperature, top_k, top_p)
        if top_p is not None and _on_the_edge(row, temperature, top_k, top_p):
            continue
        np.testing.assert_allclose(found, expected, atol=2e-6)


def _on_the_edge(logits: Any, temperature: float, top_k: int | None, top_p: float) -> bool:
    """Whether a cumulated probability is so near p that fp32 may see it on the other side."""
    cumulated = np.sort(numpy_candidates(logits, temperature, top_k, None))[::-1].cumsum()
    return bool((abs(cumulated - top_p) < 1e-5).any())


@settings(max_examples=100, deadline=None)
@given(logits=LOGITS, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: Any, top_p: float) -> None:
    full, _ = candidates(torch.from_numpy(logits))
    cut, _ = candidates(torch.from_numpy(logits), top_p=top_p)
    for before, after in zip(full.double(), cut, strict=True):
        kept = before[after > 0]
        assert kept.sum() >= top_p - 1e-5
        assert kept[:-1].sum() < top_p + 1e-5


def test_draws_come_as_often_as_their_probability() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0, -30.0]])
    probabilities, ids = candidates(logits, temperature=0.7)
    numbers = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    drawn = draw(probabilities.expand(len(numbers), -1), ids.expand(len(numbers), -1), numbers)
    shares = torch.bincount(drawn, minlength=5) / len(numbers)
    torch.testing.assert_close(shares, (logits[0] / 0.7).softmax(-1), atol=4 * 0.5 / len(numbers) ** 0.5, rtol=0)


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_no_number_draws_a_token_that_was_cut(number: float) -> None:
    probabilities = torch.tensor([[0.1] * 3 + [0.0] * 5, [1.0] + [0.0] * 7])
    ids = torch.arange(8).flip(0).expand(2, -1)
    drawn = draw(probabilities, ids, torch.full((2,), number))
    assert drawn[0] in (7, 6, 5) and drawn[1] == 7


def test_one_graph_serves_all_decoding_steps() -> None:
    model = decoder()
    plain = generate(model, PROMPTS, max_new_tokens=12, temperature=0)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = decoder()
    forward = torch.compile(compiled.forward, backend=counter, fullgraph=True, dynamic=False)
    compiled.forward = forward  # type: ignore[method-assign]
    assert generate(compiled, PROMPTS, max_new_tokens=12, temperature=0) == plain
    assert counter.frame_count == 2


def test_greedy_equals_transformers_generate() -> None:
    transformers = pytest.importorskip("transformers")
    configuration = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=48, rms_norm_eps=1e-6, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(configuration).eval()
    model = decoder()
    names = {"model.embed_tokens.weight": "embedding.weight", "model.norm.weight": "norm.weight", "lm_head.weight": "head.weight"}
    parts = {f"self_attn.{part[0]}_proj": f"attention.{part}" for part in ("query", "key", "value", "output")}
    parts |= {f"mlp.{part}_proj": f"ffn.{part}" for part in ("gate", "up", "down")}
    parts |= {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
    names |= {f"model.layers.{i}.{their}.weight": f"blocks.{i}.{our}.weight" for i in range(2) for their, our in parts.items()}
    ours = model.state_dict()
    theirs.load_state_dict({their: ours[our] for their, our in names.items()})
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    with torch.no_grad():
        made = theirs.generate(input_ids=ids, attention_mask=mask, max_new_tokens=25, do_sample=False)
        penalised = theirs.generate(input_ids=ids[3:, -2:], max_new_tokens=25, do_sample=False, repetition_penalty=1.7)
    assert generate(model, PROMPTS, max_new_tokens=25, temperature=0) == made[:, width:].tolist()
    ours = generate(model, PROMPTS, max_new_tokens=25, temperature=0, repetition_penalty=1.7)
    assert ours[3:] == penalised[:, 2:].tolist() and ours != made[:, width:].tolist()


@given(logits=LOGITS, min_p=st.floats(0.01, 0.99), top_p=st.none() | st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_min_p_keeps_what_transformers_keeps(logits: Any, min_p: float, top_p: float | None) -> None:
    warpers = pytest.importorskip("transformers").generation.logits_process
    scores = torch.from_numpy(logits).float()
    if top_p is not None:
        scores = warpers.TopPLogitsWarper(top_p)(None, scores)
    expected = warpers.MinPLogitsWarper(min_p)(None, scores).softmax(dim=-1)
    probabilities, ids = candidates(torch.from_numpy(logits), top_p=top_p, min_p=min_p)
    found = torch.zeros_like(expected).scatter(1, ids, probabilities)
    # On the edge of a cut, rounding decides: there the masses differ by one token's.
    near = (found - expected).abs().amax(dim=1) < 1e-4
    edges = ((expected == 0) != (found == 0)).any(dim=1)
    assert bool((near | edges).all()) and edges.float().mean() < 0.5


def test_a_row_ends_after_the_token_at_which_it_is_told_to(model: Decoder) -> None:
    free = generate(model, PROMPTS, max_new_tokens=12, temperature=0)
    ended = generate(model, PROMPTS, max_new_tokens=12, temperature=0, stops=lambda ids: ids[-1] == free[0][4])
    assert ended[0] == free[0][: free[0].index(free[0][4]) + 1]
    for row, whole in zip(ended, free, strict=True):
        assert row == whole[: whole.index(free[0][4]) + 1 if free[0][4] in whole else None]


def test_a_prompt_of_tokens_that_are_never_generated_is_penalised_for_none(model: Decoder) -> None:
    limited = generate(model, [[256]], max_new_tokens=1, temperature=0, vocab_limit=256)
    assert generate(model, [[256]], max_new_tokens=1, temperature=0, vocab_limit=256, repetition_penalty=1.7) == limited
