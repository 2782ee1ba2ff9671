"""Mixtral (arXiv 2401.04088): Mistral with a mixture of experts in every layer."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama, mistral
from llmkit.interop.family import Family
from llmkit.interop.weights import Rule, Stacked
from llmkit.interop.wording import Config, experts, experts_config

EXPERTS = (
    Rule("blocks.{layer}.ffn.router.weight", "model.layers.{layer}.block_sparse_moe.gate.weight"),
    Rule("blocks.{layer}.ffn.experts.gate", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight", Stacked()),
    Rule("blocks.{layer}.ffn.experts.down", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2.weight", Stacked()),
    Rule("blocks.{layer}.ffn.experts.up", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w3.weight", Stacked()),
)
COUNT, WIDTH = "num_local_experts", "intermediate_size"


def model_of(config: Config) -> Part:
    # The activation is the experts' alone: there is no dense network to have it.
    model = mistral.model_of(config | {"hidden_act": "silu"})
    ffn = experts(config, COUNT, WIDTH, balance_loss=config["router_aux_loss_coef"])
    return model | {"block": model["block"] | {"ffn": ffn}}


def config_of(model: Anatomy) -> Config:
    ffn = model.first.ffn
    return mistral.config_of(model) | experts_config(ffn, COUNT, WIDTH) | {"router_aux_loss_coef": ffn.get("balance_loss", 0.0)}


FAMILY = Family("mixtral", "MixtralForCausalLM", model_of, config_of, (*llama.ENDS, *llama.ATTENTION, *EXPERTS, *llama.NORMS))
