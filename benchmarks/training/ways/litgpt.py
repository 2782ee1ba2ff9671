"""litgpt's GPT with its own chunked cross-entropy, as its `pretrain` trains it.

It knows no learned positions: shape B has its rotary ones, on a quarter of each head, as Pythia has.
"""

from __future__ import annotations

from litgpt.model import GPT, Config
from litgpt.utils import chunked_cross_entropy
from torch import Tensor, nn

from benchmarks.training.shapes import Shape
from benchmarks.training.ways import loop
from benchmarks.training.worker import Conductor, Job


def config_of(shape: Shape) -> Config:
    llama = shape.family == "llama"
    return Config(
        name="training",
        block_size=shape.length,
        padded_vocab_size=shape.vocabulary,
        vocab_size=shape.vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_query_groups=shape.kv_heads,
        n_embd=shape.width,
        intermediate_size=shape.d_ff,
        rotary_percentage=1.0 if llama else 0.25,
        parallel_residual=False,
        bias=not llama,
        norm_class_name="RMSNorm" if llama else "LayerNorm",
        mlp_class_name="LLaMAMLP" if llama else "GptNeoxMLP",
    )


def build(shape: Shape) -> nn.Module:
    model = GPT(config_of(shape))
    if shape.family == "gpt":
        model.lm_head.weight = model.transformer.wte.weight
    return model


def loss_of(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    return chunked_cross_entropy(model(ids), targets)


def train(job: Job, conductor: Conductor) -> None:
    loop.train(job, conductor, lambda: build(job.shape), loss_of)
