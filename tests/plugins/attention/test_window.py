"""A sliding window's cache stays as small as its window and forgets nothing that the window sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import llmkit
from llmkit.core.interfaces.attention import visible
from llmkit.model.build import build
from llmkit.model.count import account
from llmkit.testing.model import drawn

WINDOW, HEADS, GROUPS, K, LAYERS = 24, 2, 1, 8, 2
ATTENTIONS: dict[str, dict[str, Any]] = {
    "gqa": {"type": "gqa", "n_heads": HEADS, "n_kv_heads": GROUPS, "head_width": K},
    "gqa with sinks": {"type": "gqa", "n_heads": HEADS, "n_kv_heads": GROUPS, "head_width": K, "sinks": True},
    "differential": {"type": "differential", "n_heads": HEADS, "n_kv_heads": GROUPS, "head_width": K // 2, "norm": "rmsnorm"},
}


def spec(attention: dict[str, Any], length: int) -> llmkit.Spec:
    block = {"attention": attention, "ffn": {"type": "mlp", "d_ff": 16}, "norm": "rmsnorm"}
    model = {"d_model": 16, "n_layers": LAYERS, "max_seq_len": length, "position": "rope", "block": block}
    return llmkit.load_spec({"tokenizer": "bytes", "model": model, "train": {"steps": 1}})


@pytest.mark.parametrize(
    ("attention", "length"), [*((name, 200) for name in ATTENTIONS), pytest.param("gqa", 10_000, marks=pytest.mark.slow)]
)
def test_decoding_one_by_one_equals_the_full_forward_and_the_cache_does_not_grow(attention: str, length: int) -> None:
    document = spec({**ATTENTIONS[attention], "window": WINDOW}, length)
    model = drawn(document)
    ids = torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(0))
    caches = model.new_caches(batch=1, max_len=length)
    said = account(document)
    held = caches.nbytes
    assert held == 2 * said.kv_cache_bytes == 2 * said.kv_cache_bytes_per_token * WINDOW  # fp32 here, two bytes a number there
    with torch.no_grad():
        decoded = torch.cat([model(ids[:, at : at + 1], caches=caches) for at in range(length)], dim=1)
        whole = model(ids)
    assert caches.nbytes == held
    assert all(part.shape[2] == WINDOW + 1 for layer in caches.layers for part in layer._kept)
    torch.testing.assert_close(decoded, whole, atol=1e-4, rtol=1e-4)


def test_the_window_is_one_that_matters() -> None:
    """Without it, or one token narrower, the logits are others: the test above would see a window that is off by one."""
    ids = torch.randint(0, 256, (1, 60), generator=torch.Generator().manual_seed(0))
    found = []
    for window in (WINDOW, WINDOW - 1, None):
        model = drawn(spec({**ATTENTIONS["gqa"], "window": window}, 64))
        with torch.no_grad():
            found.append(model(ids))
    assert (found[0] - found[1])[0, WINDOW:].abs().max() > 1e-2 and (found[0] - found[2])[0, WINDOW:].abs().max() > 1e-2
    torch.testing.assert_close(found[0][:, : WINDOW - 1], found[1][:, : WINDOW - 1])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_grouped_caches_hold_exactly_the_bytes_that_build_says(heads: int) -> None:
    document = spec({"type": "gqa", "n_heads": 4, "n_kv_heads": heads, "head_width": K}, 32)
    said = account(document)
    assert said.kv_cache_bytes_per_token == 2 * LAYERS * heads * K * 2
    caches = build(document).to(torch.bfloat16).new_caches(batch=5, max_len=32)
    assert caches.nbytes == 5 * said.kv_cache_bytes == 5 * 32 * said.kv_cache_bytes_per_token


def test_layers_of_a_hybrid_remember_as_much_as_each_sees() -> None:
    """Two local layers to a global one, each kind with a rotary base of its own (Gemma 3)."""
    local = {"attention": {**ATTENTIONS["gqa"], "window": WINDOW}, "position": {"type": "rope", "theta": 100.0}}
    document = spec(ATTENTIONS["gqa"], 64).model_dump(mode="json")
    document["model"] |= {"n_layers": 3, "blocks": {"local": local, "full": {}}, "pattern": ["local", "local", "full"]}
    hybrid = llmkit.load_spec(document)
    model = drawn(hybrid)
    ids = torch.randint(0, 256, (1, 64), generator=torch.Generator().manual_seed(0))
    caches = model.new_caches(batch=1, max_len=64)
    assert [layer.nbytes for layer in caches.layers] == [2 * GROUPS * K * 4 * slots for slots in (WINDOW, WINDOW, 64)]
    with torch.no_grad():
        decoded = torch.cat([model(ids[:, :30], caches=caches), *(model(ids[:, i : i + 1], caches=caches) for i in range(30, 64))], dim=1)
        torch.testing.assert_close(decoded, model(ids), atol=1e-4, rtol=1e-4)


def test_the_mask_is_the_windows() -> None:
    place = torch.arange(40)[None]
    assert visible(place, place, WINDOW)[0, 0].sum(dim=1).tolist() == [min(i + 1, WINDOW) for i in range(40)]
