"""transformers' Llama and GPT-2, with the loss that they compute themselves and the SDPA attention that they choose."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.training.shapes import Shape
from benchmarks.training.ways import loop
from benchmarks.training.worker import Conductor, Job


def build(shape: Shape) -> nn.Module:
    if shape.family == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=shape.width,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                intermediate_size=shape.d_ff,
                vocab_size=shape.vocabulary,
                max_position_embeddings=shape.length,
                use_cache=False,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_inner=shape.d_ff,
            vocab_size=shape.vocabulary,
            n_positions=shape.length,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
    )


def loss_of(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    return model(input_ids=ids, labels=targets, shift_labels=targets.contiguous()).loss


def train(job: Job, conductor: Conductor) -> None:
    loop.train(job, conductor, lambda: build(job.shape), loss_of)
