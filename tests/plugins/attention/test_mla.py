"""Latent attention is transformers' DeepSeek-V3's, however its latents are read, and remembers nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import llmkit
from llmkit.model.build import build
from llmkit.model.count import account
from llmkit.model.decoder import Decoder
from llmkit.plugins.attention.mla import LatentCache

VOCAB, D, LAYERS, HEADS = 258, 40, 2, 4
LATENT, NOPE, ROPE, VALUE = 24, 12, 8, 10
MLA = {
    "type": "mla",
    "n_heads": HEADS,
    "kv_lora_rank": LATENT,
    "nope_head_width": NOPE,
    "rope_head_width": ROPE,
    "value_head_width": VALUE,
    "norm": "rmsnorm",
}
PLAIN = {key: value for key, value in MLA.items() if key != "type"}


def spec(attention: dict[str, Any], position: Any = "rope") -> llmkit.Spec:
    block = {"attention": attention, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": "rmsnorm"}
    model = {"d_model": D, "n_layers": LAYERS, "max_seq_len": 64, "vocab_size": VOCAB, "position": position, "block": block}
    return llmkit.load_spec({"tokenizer": "bytes", "model": model, "train": {"steps": 1}})


def deepseek(query_rank: int | None, interleaved: bool, rope: dict[str, Any]) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.DeepseekV3Config(
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        first_k_dense_replace=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        q_lora_rank=query_rank,
        kv_lora_rank=LATENT,
        qk_nope_head_dim=NOPE,
        qk_rope_head_dim=ROPE,
        v_head_dim=VALUE,
        rope_interleave=interleaved,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default", **rope},
    )
    torch.manual_seed(0)
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape)
            parameter.copy_(drawn * 0.3 if parameter.dim() > 1 else 1 + 0.3 * drawn)
    return model


NAMES = {
    "self_attn.q_proj": "attention.query",
    "self_attn.q_a_proj": "attention.query_down",
    "self_attn.q_a_layernorm": "attention.query_norm",
    "self_attn.q_b_proj": "attention.query_up",
    "self_attn.kv_a_layernorm": "attention.latent_norm",
    "self_attn.o_proj": "attention.output",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blocks",
    "model.embed_tokens": "embedding",
    "model.norm": "norm",
    "lm_head": "head",
}


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for name, value in theirs.items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        block, joined, _ = name.partition("self_attn.kv_")
        if not joined:
            ours[name] = value
        elif "kv_a_proj" in name:
            ours[f"{block}attention.latent_down.weight"], ours[f"{block}attention.rotary_key.weight"] = value.split([LATENT, ROPE])
        else:
            keys, values = value.view(HEADS, NOPE + VALUE, LATENT).split([NOPE, VALUE], dim=1)
            ours[f"{block}attention.key_up.weight"] = keys.reshape(-1, LATENT)
            ours[f"{block}attention.value_up.weight"] = values.reshape(-1, LATENT)
    return ours


YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0}
OURS_OF_YARN = {"type": "yarn", "factor": 4.0, "original_max_seq_len": 16, "attention_factor": 1.0}


@pytest.mark.parametrize(
    ("query_rank", "interleaved", "yarn"), [(16, True, False), (None, True, False), (16, False, False), (None, True, True)]
)
def test_deepseek_weights_give_deepseek_logits_at_once_and_through_the_cache(query_rank: int | None, interleaved: bool, yarn: bool) -> None:
    theirs = deepseek(query_rank, interleaved, {"rope_type": "yarn", **YARN} if yarn else {})
    position = {"type": "rope", "layout": "interleaved" if interleaved else "half", **({"scaling": OURS_OF_YARN} if yarn else {})}
    temperature = (0.1 * torch.log(torch.tensor(4.0)).item() + 1) ** 2 if yarn else 1
    ours = build(spec({**MLA, "q_lora_rank": query_rank, "scale": temperature * (NOPE + ROPE) ** -0.5}, position)).eval()
    ours.load_state_dict(renamed(dict(theirs.state_dict())), strict=True)
    ids = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(chunked(ours, ids, [15, 1, 1, 5, 2]), expected, atol=1e-4, rtol=1e-4)


def chunked(model: Decoder, ids: Tensor, sizes: list[int]) -> Tensor:
    caches = model.new_caches(batch=len(ids), max_len=32)
    return torch.cat([model(chunk, caches=caches) for chunk in torch.split(ids, sizes, dim=1)], dim=1)


@pytest.mark.parametrize("position", [{"type": "rope"}, {"type": "alibi"}])
def test_absorbed_and_expanded_are_equal_and_the_shapes_decide(layer: Any, position: dict[str, Any]) -> None:
    mla, x = layer("mla", PLAIN, d_model=D, position=position), torch.randn(2, 20, D)
    assert mla.attention._absorbing_is_less(1, 20) and not mla.attention._absorbing_is_less(20, 20)
    expected = mla(x)
    for less in (True, False):
        mla.attention._absorbing_is_less = lambda queries, slots, less=less: less
        torch.testing.assert_close(mla.in_chunks(x, [7, 1, 12]), expected, atol=1e-5, rtol=1e-5)


def test_an_up_projection_that_is_no_plain_layer_is_called(layer: Any) -> None:
    mla, x = layer("mla", PLAIN, d_model=D), torch.randn(1, 9, D)
    mla.attention.value_up.register_forward_hook(lambda module, arguments, y: 2 * y)
    torch.testing.assert_close(mla.in_chunks(x, [4, 1, 1, 3]), mla(x), atol=1e-5, rtol=1e-5)


def test_the_cache_holds_latents_and_turned_keys_alone_as_build_says() -> None:
    model = build(spec(MLA))
    said, length = account(model.spec), 20
    assert said.kv_cache_bytes_per_token == LAYERS * (LATENT + ROPE) * 2
    caches = model.to(torch.bfloat16).new_caches(batch=3, max_len=length)
    model(torch.zeros(3, 11, dtype=torch.int64), caches=caches)
    assert caches.nbytes == 3 * length * said.kv_cache_bytes_per_token
    # Nothing else of any size: one spare slot a row, and positions.
    held = [tensor for one in caches.layers for value in vars(one).values() for tensor in (value if isinstance(value, list) else [value])]
    numbers = sum(tensor.numel() for tensor in held if isinstance(tensor, Tensor) and tensor.is_floating_point())
    assert numbers == LAYERS * 3 * (length + 1) * (LATENT + ROPE)


def test_deepseek_v3s_cache_is_70272_bytes_a_token() -> None:
    """61 layers, 512 + 64 numbers, in bf16."""
    cache = LatentCache(1, 512, 64, 1, like=torch.empty((), dtype=torch.bfloat16, device="meta"))
    assert 61 * cache.nbytes == 70272


def test_products_are_those_of_the_formula() -> None:
    t = account(spec({**MLA, "q_lora_rank": 16})).flops_per_token.forward
    up = LATENT * HEADS * (NOPE + VALUE) + D * (LATENT + ROPE)
    query = D * 16 + 16 * HEADS * (NOPE + ROPE)
    attention = 64 * HEADS * (NOPE + ROPE + VALUE)
    layer = query + up + attention + HEADS * VALUE * D + 3 * D * 48
    assert t == 2 * (LAYERS * layer + D * VOCAB)


def test_another_cache_is_refused(layer: Any) -> None:
    mla = layer("mla", PLAIN, d_model=D)
    with pytest.raises(TypeError, match="mla needs a LatentCache from new_cache, got object"):
        mla(torch.zeros(1, 1, D), object())
