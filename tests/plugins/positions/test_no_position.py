"""No position, for the whole model or for some layers: SmolLM3 leaves every fourth layer without rotation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.runtime import load_spec

TURNED = [1, 1, 1, 0, 1]


def hybrid(position: Any = "none", theta: float = 500.0) -> Decoder:
    """Five layers in SmolLM3's pattern, the fourth with a position of its own."""
    block = {
        "attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2},
        "ffn": {"type": "swiglu", "d_ff": 48},
        "norm": {"type": "rmsnorm", "eps": 1e-6},
    }
    model = {"d_model": 32, "n_layers": 5, "max_seq_len": 64, "vocab_size": 258, "position": {"type": "rope", "theta": theta}}
    layers = {"blocks": {"turned": {}, "unturned": {"position": position}}, "pattern": ["turned", "turned", "turned", "unturned"]}
    return build(load_spec({"tokenizer": "bytes", "model": {**model, "block": block, **layers}})).eval()


NAMES = {
    "model.embed_tokens": "embedding",
    "model.layers": "blocks",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.norm": "norm",
    "lm_head": "head",
}


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for name, value in theirs.items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        ours[name] = value
    return ours


def test_a_hybrid_with_unturned_layers_gives_the_logits_of_smollm3() -> None:
    transformers = pytest.importorskip("transformers")

    config = transformers.SmolLM3Config(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    assert config.no_rope_layers == TURNED
    theirs = transformers.SmolLM3ForCausalLM(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        # Large weights, so that attention is peaked and a layer that is turned by mistake shows.
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.25 if parameter.dim() > 1 else 1 + 0.3 * torch.randn_like(parameter))
        ours, ids = hybrid(), torch.randint(0, 258, (2, 40))
        ours.load_state_dict(renamed(theirs.state_dict()))
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, rtol=1e-4, atol=1e-4)
        caches = ours.new_caches(batch=2, max_len=40)
        chunks = [ours(chunk, caches=caches) for chunk in torch.split(ids, [7, 1, 32], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), expected, rtol=1e-4, atol=1e-4)

        turned = hybrid({"type": "rope", "theta": 500.0})
        turned.load_state_dict(renamed(theirs.state_dict()))
        assert float((turned(ids) - expected).abs().max()) > 0.1


def test_an_unturned_layer_holds_no_tables_and_saves_nothing() -> None:
    model = hybrid()
    assert list(model.positions) == ["main"]
    assert model.blocks[3].attention.position.width == 0
    assert model.blocks[2].attention.position.width == 8
    assert not [name for name in model.state_dict() if "position" in name]


def test_without_any_position_the_order_of_what_came_before_is_still_seen_through_depth() -> None:
    """The causal mask alone tells order (arXiv 2305.19466), and one layer alone cannot: it sees a set."""

    def logits(layers: int, ids: list[int]) -> Tensor:
        block = {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": "rmsnorm"}
        model = {"d_model": 32, "n_layers": layers, "max_seq_len": 16, "position": "none", "block": block}
        with torch.no_grad():
            made = build(load_spec({"tokenizer": "bytes", "model": model}))
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(10)
            return made(torch.tensor([ids]))[0, -1]

    torch.testing.assert_close(logits(1, [5, 6, 7, 8]), logits(1, [7, 5, 6, 8]))
    assert float((logits(2, [5, 6, 7, 8]) - logits(2, [7, 5, 6, 8])).abs().max()) > 0.01
