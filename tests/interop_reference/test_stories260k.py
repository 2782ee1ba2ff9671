"""Real, published weights say what their author printed, character for character."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import llmkit
from llmkit.model.build import build
from llmkit.model.decoder import Decoder

FILES = Path(__file__).parents[2] / "../shared/data/stories260K"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the stories260K weights are not beside this repository")

NAMES = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "mlp.": "ffn.",
    "_proj": "",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blocks",
    "model.embed_tokens": "embedding",
    "model.norm": "norm",
    "lm_head": "head",
}


def stories(layout: str) -> Decoder:
    document = {
        "tokenizer": {"type": "bytes"},
        "model": {
            "d_model": 64,
            "n_layers": 5,
            "max_seq_len": 512,
            "vocab_size": 512,
            "position": {"type": "rope", "layout": layout},
            "block": {
                "attention": {"type": "gqa", "n_heads": 8, "n_kv_heads": 4},
                "ffn": {"type": "swiglu", "d_ff": 172},
                "norm": {"type": "rmsnorm", "eps": 1e-5},
            },
            "tie_embeddings": True,
        },
        "train": {"steps": 1},
    }
    model = build(llmkit.load_spec(document)).eval()
    weights = {}
    for name, value in load_file(FILES / "hf/model.safetensors").items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = interleaved(value) if layout == "interleaved" and (".query." in name or ".key." in name) else value
    weights["head.weight"] = weights["embedding.weight"]
    model.load_state_dict(weights, strict=True)
    return model


def interleaved(weight: torch.Tensor, head_width: int = 8) -> torch.Tensor:
    """Rows of every head from halves to pairs: what the files were before their conversion."""
    return weight.view(-1, 2, head_width // 2, weight.shape[1]).transpose(1, 2).reshape_as(weight)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_stories260k_prints_the_published_greedy_text_through_the_cache(layout: str) -> None:
    model, tokenizer = stories(layout), Tokenizer.from_file(str(FILES / "hf/tokenizer.json"))
    golden = (FILES / "GOLDEN.txt").read_text(encoding="utf-8").strip()
    begin = tokenizer.token_to_id("<s>")
    ids, token = [begin], torch.tensor([[begin]])
    with torch.no_grad():
        caches = model.new_caches(1, 256)
        for _ in range(256):
            token = model(token, caches=caches)[:, -1:].argmax(dim=-1)
            ids.append(int(token))
    text = tokenizer.decode(ids).strip()
    assert len(golden) > 500
    assert text == golden
