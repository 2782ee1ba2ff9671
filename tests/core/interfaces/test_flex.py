"""Flex attention against the dense path, on the CPU: the same functions of score and mask that a GPU compiles into its kernel."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import flex_attention as torch_flex

import llmkit
from llmkit.core.interfaces.attention import Context, attend, sees, visible
from llmkit.core.interfaces.flex import BlockMasks, block_masks
from llmkit.core.interfaces.objective import Batch
from llmkit.core.interfaces.position import PositionHandle, Tables
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import initialise

HEADS, GROUPS, WIDTH, LENGTH = 4, 2, 16, 200
"""A length that is no multiple of a block of 128."""


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch warns that flex attention is not compiled here, and refuses gradients on a CPU, for which it has no kernel: what it
    computes in its place is written out, and has them."""
    # Another soft-cap than before would be traced as a number that varies, which flex attention cannot take.
    torch._dynamo.reset()
    warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)


def falling(q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
    return tables["slopes"][head] * (k_pos - q_pos)


def unturned(x: Tensor, tables: Tables) -> Tensor:
    return x


FALLING = PositionHandle("falling", 0, unturned, falling)


def drawn(rows: int, *, width: int = WIDTH) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, WIDTH), (GROUPS, WIDTH), (GROUPS, width)]
    return [torch.randn(rows, heads, LENGTH, channels, generator=generator, requires_grad=True) for heads, channels in shapes]


PLAIN = torch.arange(LENGTH).expand(2, -1)
PADDED = torch.stack([torch.arange(LENGTH), (torch.arange(LENGTH) - 70).clamp(min=-1)])
LENGTHS = [[30, 128, 42], [150, 1, 49]]
PACKED = torch.tensor([[at for length in row for at in range(length)] for row in LENGTHS])
SEGMENTS = torch.tensor([[index for index, length in enumerate(row) for _ in range(length)] for row in LENGTHS])
TEXTS: dict[str, tuple[Tensor, Tensor | None]] = {"plain": (PLAIN, None), "padded": (PADDED, None), "packed": (PACKED, SEGMENTS)}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("window", [None, 1, 50, 190])
@pytest.mark.parametrize("further", ["nothing", "bias", "softcap", "sinks", "all"])
def test_flex_attention_is_the_dense_one_and_so_are_its_gradients(text: str, window: int | None, further: str) -> None:
    positions, segments = TEXTS[text]
    biased, softcap = further in ("bias", "all"), 5.0 if further in ("softcap", "all") else None
    sinks = torch.linspace(-1, 1, HEADS).requires_grad_() if further in ("sinks", "all") else None
    slopes = torch.linspace(0.01, 0.1, HEADS).requires_grad_()
    tables: dict[str, Tables] = {"falling": {"slopes": slopes}}
    dense = Context(positions, tables, segments, {}, plain=text == "plain")
    flexible = dense._replace(blocks=block_masks(positions, segments, {window}, plain=dense.plain))
    known = (positions >= 0)[:, None, :, None]
    found = []
    for ctx in (dense, flexible):
        q, k, v = drawn(2)
        y = attend(q, k, v, ctx, position=FALLING if biased else None, window=window, softcap=softcap, sinks=sinks)
        # What a padding query returns is thrown away.
        asked = [q, k, v, *([slopes] if biased else []), *([sinks] if sinks is not None else [])]
        found.append([y * known, *torch.autograd.grad((y * known).square().sum(), asked)])
    for expected, result in zip(*found, strict=True):
        torch.testing.assert_close(result, expected, atol=2e-4, rtol=2e-4)


def test_values_of_another_width_than_keys_are_attended_over_too() -> None:
    q, k, v = drawn(2, width=24)
    ctx = Context(PLAIN, {}, None, {}, plain=True)
    flexible = ctx._replace(blocks=block_masks(PLAIN, None, {20}, plain=True))
    torch.testing.assert_close(attend(q, k, v, flexible, window=20), attend(q, k, v, ctx, window=20), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("window", [None, 50])
def test_blocks_that_are_skipped_are_hidden_and_those_without_a_mask_are_wholly_visible(text: str, window: int | None) -> None:
    positions, segments = TEXTS[text]
    plain = text == "plain"
    mask = block_masks(positions, segments, {window}, plain=plain)[window]
    rows = positions[:1] if plain else positions
    wanted = visible(rows, rows, window, None if plain else segments, None if plain else segments)
    size = mask.BLOCK_SIZE[0]
    padded = nn.functional.pad(wanted, (0, -LENGTH % size, 0, -LENGTH % size))
    blocks = padded.unflatten(3, (-1, size)).unflatten(2, (-1, size)).transpose(3, 4)  # type: ignore[no-untyped-call]
    computed = torch.zeros(blocks.shape[:4], dtype=torch.int64)
    for counts, indices in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)):
        assert counts is not None and indices is not None
        for place in torch.cartesian_prod(*map(torch.arange, counts.shape)).tolist():
            computed[(*place, indices[tuple(place)][: counts[tuple(place)]].long())] += 1
    assert torch.equal(computed == 1, blocks.any(dim=-1).any(dim=-1))
    assert computed.max() == 1


def test_a_mask_by_elements_is_the_mask_of_all_pairs() -> None:
    q, k = PADDED[1], PADDED[0]
    by_pair = torch.stack([torch.stack([sees(one, other, 30) for other in k[::9]]) for one in q[::9]])
    assert torch.equal(by_pair, visible(q[None, ::9], k[None, ::9], 30)[0, 0])


def test_masks_of_plain_text_are_made_once_and_those_of_documents_anew() -> None:
    first, second = (block_masks(PLAIN, None, {None, 30}, plain=True) for _ in range(2))
    assert first[30] is second[30] and first[None] is second[None] and first[30] is not first[None]
    assert block_masks(PACKED, SEGMENTS, {None}, plain=False)[None] is not block_masks(PACKED, SEGMENTS, {None}, plain=False)[None]


def model(**block: Any) -> Decoder:
    document = {
        "name": "flex",
        "tokenizer": "bytes",
        "model": {
            "d_model": 64,
            "n_layers": 3,
            "max_seq_len": LENGTH,
            "position": block.pop("position", "rope"),
            "block": {"attention": {"type": "mha", "n_heads": 4}, "ffn": "swiglu", "norm": "rmsnorm", **block},
        },
        "data": {"source": {"type": "text", "paths": ["none"]}},
        "train": {"optimizer": {"type": "adamw", "lr": 1e-3}, "steps": 1},
    }
    spec = llmkit.load_spec(document)
    made = build(spec)
    initialise(made, spec.model, 0)
    return made


GQA = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}
LATENTS = {"kv_lora_rank": 16, "nope_head_width": 8, "rope_head_width": 8, "value_head_width": 8}
MODELS: dict[str, dict[str, Any]] = {
    "rope": {"attention": GQA},
    "alibi": {"position": "alibi", "attention": GQA},
    "t5": {"position": "t5", "attention": GQA},
    "window": {"attention": {**GQA, "window": 64}},
    "softcap": {"attention": {**GQA, "softcap": 10.0}},
    "sinks": {"attention": {**GQA, "sinks": True, "window": 64}},
    "mla": {"attention": {"type": "mla", "n_heads": 4, "norm": "rmsnorm", **LATENTS}},
    "differential": {"attention": {"type": "differential", "n_heads": 2, "norm": "rmsnorm"}},
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_goes_by_flex_attention_computes_the_same(name: str, text: str) -> None:
    made = model(**MODELS[name])
    positions, segments = TEXTS[text]
    ids = torch.randint(256, positions.shape, generator=torch.Generator().manual_seed(1))
    batch = Batch(ids, ids, None if text == "plain" else positions, segments)
    known = (positions >= 0)[..., None]
    results = []
    for flex in (False, True):
        made.flex = flex
        made.zero_grad()
        h, _ = made.features(batch)
        (h * known).square().sum().backward()  # type: ignore[no-untyped-call]
        results.append([(h * known).detach(), *(one.grad for one in made.parameters() if one.grad is not None)])
    for dense, flexible in zip(*results, strict=True):
        torch.testing.assert_close(flexible, dense, atol=1e-3, rtol=1e-3)


def test_with_a_cache_a_model_goes_by_the_dense_path() -> None:
    made = model(position="alibi")
    ids = torch.randint(256, (1, 40))
    with torch.no_grad():
        dense = made(ids, caches=made.new_caches(1, 40))
        made.flex = True
        assert torch.equal(made(ids, caches=made.new_caches(1, 40)), dense)


def test_only_compiled_blocks_on_a_gpu_go_by_flex_attention_and_only_where_nobody_reads_masks() -> None:
    made = model()
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert not made.goes_by_flex(gpu)
    for block in made.blocks:
        block.compile(backend="eager")
    assert made.goes_by_flex(gpu) and not made.goes_by_flex(cpu)
    made.blocks[1].attention.context_parallel = False  # type: ignore[union-attr]
    assert not made.goes_by_flex(gpu)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["rope", "alibi"])
def test_compiled_blocks_take_flex_attention_in_one_graph_and_new_documents_compile_nothing(position: str) -> None:
    made, dense = (model(position=position).eval() for _ in range(2))
    made.flex = True
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    for block in made.blocks:
        block.compile(backend=backend, fullgraph=True)
    masks: BlockMasks | None = None
    with torch.no_grad():
        for seed in range(3):
            cuts = torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(seed)) < 0.05
            segments = cuts.long().cumsum(1)
            ids = torch.randint(256, segments.shape)
            batch = Batch(ids, ids, None, segments)
            found, _ = made.features(batch)
            ctx = made.context(batch)
            assert ctx.blocks is not masks
            masks = dict(ctx.blocks or {})
            expected, _ = dense.features(batch)
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert len(graphs) == 1
    assert any("flex_attention" in str(node.target) for node in graphs[0].graph.nodes)
