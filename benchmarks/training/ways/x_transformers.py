"""x-transformers' TransformerWrapper around its Decoder, with flash attention on."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers import Decoder, TransformerWrapper

from benchmarks.training.shapes import Shape
from benchmarks.training.ways import loop
from benchmarks.training.worker import Conductor, Job


def build(shape: Shape) -> nn.Module:
    head_width = shape.width // shape.heads
    llama = {
        "rotary_pos_emb": True,
        "rotary_emb_dim": head_width,
        "use_rmsnorm": True,
        "ff_glu": True,
        "ff_swish": True,
        "ff_no_bias": True,
        "attn_kv_heads": shape.kv_heads,
    }
    layers = Decoder(
        dim=shape.width,
        depth=shape.layers,
        heads=shape.heads,
        attn_dim_head=head_width,
        attn_flash=True,
        ff_mult=shape.d_ff / shape.width,
        **(llama if shape.family == "llama" else {}),
    )
    return TransformerWrapper(
        num_tokens=shape.vocabulary,
        max_seq_len=shape.length,
        attn_layers=layers,
        use_abs_pos_emb=shape.family == "gpt",
        tie_embedding=shape.family == "gpt",
    )


def loss_of(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


def train(job: Job, conductor: Conductor) -> None:
    loop.train(job, conductor, lambda: build(job.shape), loss_of)
