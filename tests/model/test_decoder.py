"""The decoder: caches, padding, packing, sharing of positions, and how often it compiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.interfaces.ffn import Aux, FeedForward
from llmkit.core.interfaces.objective import Batch
from llmkit.core.interfaces.position import Position, Tables
from llmkit.core.site import Site
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.positions import handle

LENGTH = 24


def spec(**model: Any) -> Spec:
    sizes = {"d_model": 32, "n_layers": 3, "max_seq_len": LENGTH}
    return llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": {**sizes, **model}, "train": {"steps": 1}})


def noisy(**model: Any) -> Decoder:
    """Weights so large that attention is no average."""
    made = build(spec(**model)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.25 if parameter.dim() > 1 else 0.3))
    return made


HEADS = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "rope": {"block": {"attention": HEADS}},
    "learned": {"position": "learned", "block": {"attention": HEADS, "layout": "post", "norm": "layernorm"}},
    "sinusoidal": {"position": "sinusoidal", "block": {"attention": HEADS, "layout": "parallel"}},
    "alibi": {"position": "alibi", "block": {"attention": HEADS, "layout": "sandwich"}},
    "none": {"position": "none", "block": {"attention": HEADS, "layout": "branch_post"}},
    "window": {"block": {"attention": {**HEADS, "window": 5}}},
    "alibi in a window": {"position": "alibi", "block": {"attention": {**HEADS, "window": 5}}},
    "hybrid": {
        "blocks": {
            "local": {"attention": {**HEADS, "window": 4}, "position": {"type": "rope", "theta": 100.0}},
            "full": {"position": "none"},
        },
        "pattern": ["local", "full"],
    },
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Iterator[Decoder]:
    with torch.no_grad():
        yield noisy(**MODELS[request.param])


def tokens(rows: int = 2, length: int = LENGTH, seed: int = 1) -> Tensor:
    return torch.randint(258, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", [[24], [1] * 24, [12, 12], [1, 11, 1, 11], [20, 1, 1, 1, 1], [3, 9, 12]])
def test_cached_decoding_equals_the_full_forward(model: Decoder, sizes: list[int]) -> None:
    ids = tokens()
    caches = model.new_caches(2, LENGTH)
    found = torch.cat([model(chunk, caches=caches) for chunk in ids.split(sizes, dim=1)], dim=1)
    close(found, model(ids))
    assert caches.seen.tolist() == [LENGTH, LENGTH]


def test_no_token_reads_a_later_one(model: Decoder) -> None:
    ids, other = tokens(), tokens(seed=2)
    other[:, :10] = ids[:, :10]
    close(model(other)[:, :10], model(ids)[:, :10])
    assert (model(other)[:, 10:] - model(ids)[:, 10:]).abs().max() > 0.1


def test_left_padding_changes_nothing(model: Decoder) -> None:
    ids = tokens(1, 10)
    row, at = torch.cat([tokens(1, 4, seed=5), ids], dim=1), torch.tensor([[-1] * 4 + list(range(10))])
    expected = model(ids)
    close(model(row, positions=at)[:, 4:], expected)
    caches = model.new_caches(1, 16)
    first = model(row[:, :9], positions=at[:, :9], caches=caches)[:, 4:]
    assert caches.seen.tolist() == [5]
    close(torch.cat([first, model(row[:, 9:], caches=caches)], dim=1), expected)


def test_packed_documents_equal_separate_ones(model: Decoder) -> None:
    lengths = [7, 1, 12, 4]
    ids = tokens(1)
    at = torch.cat([torch.arange(length) for length in lengths])[None]
    segments = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    packed = model(ids, positions=at, segments=segments).split(lengths, dim=1)
    for part, found in zip(ids.split(lengths, dim=1), packed, strict=True):
        close(found, model(part))


def test_rows_of_a_batch_do_not_touch_each_other(model: Decoder) -> None:
    ids = tokens(3)
    close(model(ids)[1:2], model(ids[1:2]))


def test_given_positions_mean_what_the_implied_ones_do(model: Decoder) -> None:
    ids = tokens()
    close(model(ids, positions=torch.arange(LENGTH).expand(2, -1)), model(ids))


def test_features_and_head_are_the_forward(model: Decoder) -> None:
    ids = tokens()
    h, aux = model.features(Batch(ids, ids))
    close(model.head(h), model(ids))
    assert h.shape == (2, LENGTH, 32) and aux == Aux({}, {})


def test_selected_caches_go_on_as_those_rows() -> None:
    model, ids = noisy(**MODELS["window"]), tokens(3)
    rows = torch.tensor([2, 0])
    with torch.no_grad():
        caches = model.new_caches(3, LENGTH)
        model(ids[:, :9], caches=caches)
        close(model(ids[rows, 9:], caches=caches.select(rows)), model(ids[rows])[:, 9:])


def test_truncated_caches_go_on_from_there() -> None:
    model, ids = noisy(**MODELS["rope"]), tokens()
    with torch.no_grad():
        caches = model.new_caches(2, LENGTH)
        model(torch.cat([ids[:, :6], tokens(2, 5, seed=8)], dim=1), caches=caches)
        caches.truncate(6)
        close(model(ids[:, 6:], caches=caches), model(ids)[:, 6:])


def test_packing_with_a_cache_is_refused() -> None:
    model = noisy(**MODELS["rope"])
    with pytest.raises(ValueError, match="`segments` or `caches`, not both"):
        model(tokens(), segments=torch.zeros(2, LENGTH, dtype=torch.int64), caches=model.new_caches(2, LENGTH))


def names(**model: Any) -> list[str]:
    return sorted(build(spec(**model), device="meta").positions)


def test_one_position_that_serves_all_is_main() -> None:
    assert names() == ["main"]
    assert names(position="learned") == []


def test_a_blocks_own_position_bears_its_name_even_where_it_says_the_same() -> None:
    blocks = {"local": {"position": "rope"}, "full": {}}
    assert names(blocks=blocks) == ["local", "main"]


@pytest.mark.parametrize("pattern", [["a", "b", "b"], ["b", "a", "b"]])
def test_several_shapes_are_told_apart_whatever_the_order(pattern: list[str]) -> None:
    blocks = {"a": {"attention": {"type": "mha", "n_heads": 8}}, "b": {"attention": {"type": "mha", "n_heads": 2}}}
    assert names(blocks=blocks, pattern=pattern) == ["main-2x16", "main-8x4"]


@pytest.mark.parametrize("name", ["main", "keys", "a.b"])
def test_a_block_whose_name_is_taken_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="call the block otherwise"):
        build(spec(blocks={name: {"position": "rope"}}), device="meta")


def test_a_blocks_position_that_embeds_is_refused() -> None:
    with pytest.raises(UserError, match=r"make it model\.position"):
        build(spec(blocks={"full": {"position": "learned"}}), device="meta")


class Leaky(Position):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.number = 3

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        return x * self.number * self.scale


def test_a_position_that_reads_its_parameter_in_rotate_is_told_what_to_do() -> None:
    served = handle("main", Leaky(), frozenset({"rotate"}), 4)
    with pytest.raises(AttributeError, match=r"Leaky\.rotate and \.bias .* self\.scale.*`tables`"):
        served.rotate(torch.ones(1, 1, 1, 4), {})


class Counting(FeedForward):
    def __init__(self, site: Site) -> None:
        super().__init__()
        self.linear = nn.Linear(site.d_model, site.d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        return self.linear(x), Aux({"balance": x.square().mean(dim=(1, 2))}, {"tokens": torch.tensor(x.shape[1])})


def test_auxiliary_results_are_keyed_by_address() -> None:
    model = noisy()
    block: Any = model.blocks[1]
    block.ffn = Counting(Site(32, 32, 3, 1, LENGTH, 258))
    _, aux = model.features(Batch(tokens(), tokens()))
    assert list(aux.losses) == ["blocks.1.ffn.balance"]
    assert list(aux.stats) == ["blocks.1.ffn.tokens"]


def test_names_are_those_of_the_contract() -> None:
    model = noisy(position="learned", block={"layout": "sandwich"})
    assert {name for name, _ in model.named_children()} == {"embedding", "position", "positions", "blocks", "norm", "head"}
    parts = {name for name, _ in model.blocks[0].named_children()}
    assert parts == {"attention_norm", "attention", "attention_post_norm", "ffn_norm", "ffn", "ffn_post_norm"}
    assert model._no_split_modules == ["Block"]
    assert model.get_input_embeddings() is model.embedding and model.get_output_embeddings() is model.head


def test_a_tied_head_is_the_embedding_and_stays_so_after_to_empty() -> None:
    model = build(spec(tie_embeddings=True), device="meta")
    model.to_empty(device="cpu")
    model.tie_weights()
    assert model.head.weight is model.embedding.weight


@pytest.fixture
def counters() -> Iterator[Any]:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", ["rope", "alibi", "hybrid"])
def test_blocks_compile_once_each_kind_whatever_the_depth(kind: str, counters: Any) -> None:
    model = noisy(**{**MODELS[kind], "n_layers": 6})
    ids, expected = tokens(), noisy(**{**MODELS[kind], "n_layers": 6})(tokens())
    for block in model.blocks:
        block.compile(backend=counters, fullgraph=True)
    close(model(ids), expected)
    model(tokens(seed=4))
    assert counters.frame_count == (2 if kind == "hybrid" else 1)
    assert not any("_orig_mod" in key for key in model.state_dict())


@pytest.mark.parametrize("kind", ["rope", "alibi", "window", "learned"])
def test_all_decode_steps_are_one_compilation(kind: str, counters: Any) -> None:
    model, ids = noisy(**MODELS[kind]), tokens()
    with torch.no_grad():
        expected = model(ids)
        caches = model.new_caches(2, LENGTH)
        model(ids[:, :4], caches=caches)
        model.compile(backend=counters, fullgraph=True)
        found = [model(ids[:, at : at + 1], caches=caches) for at in range(4, LENGTH)]
    close(torch.cat(found, dim=1), expected[:, 4:])
    assert counters.frame_count == 1


@pytest.mark.parametrize("kind", ["rope", "alibi", "window"])
def test_autocast_reads_its_caches_as_it_reads_the_whole(kind: str) -> None:
    model, ids = noisy(**MODELS[kind]), tokens()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        caches = model.new_caches(2, LENGTH)
        found = torch.cat([model(chunk, caches=caches) for chunk in ids.split([9, 1, 14], dim=1)], dim=1)
        whole = model(ids)
    with torch.no_grad():
        exact = model(ids)
    assert (found - whole).abs().mean() < 0.03 * exact.std()
    assert (whole - exact).abs().mean() < 0.03 * exact.std()


def test_embeddings_are_scaled_before_the_first_block() -> None:
    plain, scaled = noisy(), noisy(embedding_scale="sqrt")
    with torch.no_grad():
        plain.embedding.weight.mul_(32**0.5)
        assert torch.allclose(plain(tokens()), scaled(tokens()), atol=1e-5)


def test_logits_are_scaled_and_then_capped_with_and_without_a_cache() -> None:
    plain, capped = noisy(), noisy(logit_scale=40.0, logit_softcap=5.0)
    expected = 5 * torch.tanh(40 * plain(tokens()).detach() / 5)
    assert float(expected.abs().max()) > 4
    torch.testing.assert_close(capped(tokens()), expected)
    torch.testing.assert_close(capped(tokens(), caches=capped.new_caches(len(tokens()), LENGTH)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["pre", "post", "sandwich", "branch_post", "parallel"])
def test_a_residual_scale_of_zero_leaves_only_the_stream(layout: str) -> None:
    model = noisy(block={"layout": layout, "residual_scale": 0.0, "norm": "none"}, norm="none")
    torch.testing.assert_close(model(tokens()), model.head(model.embedding(tokens())))


def test_the_residual_scale_by_depth_is_one_over_the_root_of_the_layers() -> None:
    by_depth, by_number = noisy(block={"residual_scale": "depth"}), noisy(block={"residual_scale": 3**-0.5})
    assert by_depth.spec.model.n_layers == 3
    assert torch.equal(by_depth(tokens()), by_number(tokens()))
    assert not torch.equal(by_depth(tokens()), noisy()(tokens()))
