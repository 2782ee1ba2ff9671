"""Gemma 3, its text model (arXiv 2503.19786): Gemma 2 with QK-norm for soft-caps, five layers of six sliding, a base for each kind."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import gemma, gemma2, qwen3
from llmkit.interop.family import Family
from llmkit.interop.wording import FULL, SLIDING, Config, one_of, rope, rope_parameters, stack


def model_of(config: Config) -> Part:
    turns = {kind: rope(config, config["rope_parameters"][kind]) for kind in (FULL, SLIDING)}
    model = gemma.model_of(config | {"hidden_act": config["hidden_activation"], "rope_parameters": config["rope_parameters"][FULL]})
    block = model.pop("block") | {"layout": "sandwich"}
    blocks = {
        kind: block | {"attention": gemma2.attention(config, kind) | {"qk_norm": gemma.norm(config)}, "position": turns[kind]}
        for kind in (FULL, SLIDING)
    }
    return model | {"logit_softcap": config["final_logit_softcapping"]} | stack(config["layer_types"], blocks)


def config_of(model: Anatomy) -> Config:
    return gemma2.config_of(model) | {"rope_parameters": {kind: rope_parameters(one_of(model, kind).position) for kind in (FULL, SLIDING)}}


FAMILY = Family("gemma3_text", "Gemma3ForCausalLM", model_of, config_of, (*gemma2.FAMILY.rules, *qwen3.QK_NORMS))
