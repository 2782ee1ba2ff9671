"""Models that between them have what parallelism can get wrong, and how ranks may share one."""

from dataclasses import dataclass
from typing import Any

GQA = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "qk_norm": "rmsnorm", "gate": "head", "sinks": True}
MOE = {"type": "moe", "n_experts": 4, "n_active": 2, "d_ff": 32, "shared_d_ff": 16, "bias_rate": 1e-3}
LATENT = {
    "type": "mla",
    "n_heads": 4,
    "kv_lora_rank": 16,
    "nope_head_width": 8,
    "rope_head_width": 4,
    "value_head_width": 8,
    "norm": "rmsnorm",
}
BLOCK = {"attention": GQA, "ffn": "swiglu", "norm": "rmsnorm", "layout": "pre"}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"block": BLOCK},
    "moe": {"block": {**BLOCK, "ffn": {**MOE, "balance_loss": 0.01, "z_loss": 1e-3}}, "position": "alibi", "tie_embeddings": False},
    "hybrid": {
        "n_layers": 4,
        "block": BLOCK,
        "blocks": {"local": {"attention": {**GQA, "window": 8}}, "latent": {"attention": LATENT, "ffn": {**MOE, "balance_loss": 0}}},
        "pattern": ["local", "latent"],
    },
}


@dataclass(frozen=True)
class Job:
    """One run: its name, its model, `parallel`, and what else is set."""

    name: str
    model: str
    parallel: dict[str, Any]
    overrides: tuple[str, ...] = ()
    resume: str = "auto"
