"""Which family can say a spec, and what is in the way where none can."""

from __future__ import annotations

from typing import Any

import pytest

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.interop.family import families, family_of_config, family_of_spec, named_family

LLAMA: dict[str, Any] = {
    "d_model": 32,
    "n_layers": 2,
    "max_seq_len": 64,
    "block": {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": "rmsnorm"},
}
GPT2: dict[str, Any] = {
    "d_model": 32,
    "n_layers": 2,
    "max_seq_len": 64,
    "position": "learned",
    "block": {
        "attention": {"type": "mha", "n_heads": 4, "bias": True},
        "ffn": {"type": "mlp", "activation": "gelu_tanh", "bias": True},
        "norm": "layernorm",
    },
    "tie_embeddings": True,
}
LONG_ALWAYS = "{type: longrope, short_factor: [1, 1, 1, 1], long_factor: [1, 2, 3, 4], original_max_seq_len: 16, use: long}"


def spec(model: dict[str, Any], *overrides: str) -> Spec:
    return llmkit.load_spec({"name": "mine", "tokenizer": "bytes", "model": model}, overrides)


@pytest.mark.parametrize(
    ("model", "overrides", "family"),
    [
        (LLAMA, (), "llama"),
        (LLAMA, ("model.block.attention={type: mqa, n_heads: 4}",), "llama"),
        (LLAMA, ("model.block.attention={type: mha, n_heads: 4, bias: true}",), "llama"),
        (LLAMA, ("model.position.layout=interleaved", "model.position.theta=500"), "llama"),
        (LLAMA, ("model.position.scaling={type: yarn, factor: 4, original_max_seq_len: 16}",), "llama"),
        (LLAMA, ("model.block.attention.window=8",), "mistral"),
        (LLAMA, ("model.block.attention.bias=qkv",), "qwen2"),
        (LLAMA, ("model.block.ffn={type: moe, n_experts: 4, n_active: 2}",), "mixtral"),
        (LLAMA, ("model.block.ffn={type: moe, n_experts: 4, n_active: 2, activation: relu}",), "mixtral"),
        (LLAMA, ("model.position.fraction=0.5",), "phi3"),
        (GPT2, (), "gpt2"),
        (GPT2, ("model.tie_embeddings=false", "model.block.ffn.d_ff=50"), "gpt2"),
    ],
)
def test_the_plainest_family_that_can_say_a_spec_is_its_family(model: dict[str, Any], overrides: tuple[str, ...], family: str) -> None:
    assert family_of_spec(spec(model, *overrides)).model_type == family


def test_initial_values_and_what_else_only_training_reads_are_in_nobodys_way() -> None:
    mixture = spec(LLAMA, "model.block.ffn={type: moe, n_experts: 4, n_active: 2, z_loss: 0.1}", "model.init=gpt2")
    assert family_of_spec(mixture).model_type == "mixtral"


@pytest.mark.parametrize(
    ("model", "override", "nearest", "reason"),
    [
        (LLAMA, "model.position=alibi", "llama", "model.position: the spec has alibi, llama has rope"),
        (LLAMA, "model.position=learned", "llama", "model.position: the spec has learned, llama has rope"),
        (LLAMA, "model.block.layout=parallel", "llama", "model.block.layout: the spec has parallel, llama has pre"),
        (LLAMA, "model.logit_softcap=30", "llama", "model.logit_softcap: the spec has 30.0, llama has none"),
        (LLAMA, "model.embedding_scale=sqrt", "llama", "model.embedding_scale: the spec has 5.65"),
        (LLAMA, "model.init={type: mup, base_width: 16}", "llama", "model.logit_scale: the spec has 0.5, llama has 1.0"),
        (LLAMA, "model.norm=layernorm", "llama", "model.norm: the spec has layernorm, llama has rmsnorm"),
        (LLAMA, "model.block.attention.scale=2", "llama", "model.block.attention.scale: the spec has 2.0, llama has 0.35"),
        (LLAMA, f"model.position.scaling={LONG_ALWAYS}", "llama", "model.position.scaling.use: the spec has long, llama has fitting"),
        (
            LLAMA,
            "model.position={fraction: 0.5, scaling: {type: linear, factor: 2}}",
            "llama",
            "model.position.fraction: the spec has 0.5, llama has 1.0",
        ),
        (
            LLAMA,
            "model.position.scaling={type: dynamic, factor: 2, original_max_seq_len: 16}",
            "llama",
            "model.position.scaling.original_max_seq_len: the spec has 16, llama has 64",
        ),
        (GPT2, "model.block.attention.bias=false", "gpt2", "model.block.attention.bias: the spec has False, gpt2 has True"),
        (GPT2, "model.block.norm.bias=false", "gpt2", "model.block.norm.bias: the spec has False, gpt2 has True"),
    ],
)
def test_a_spec_that_no_family_can_say_is_refused_with_what_is_in_the_way(
    model: dict[str, Any], override: str, nearest: str, reason: str
) -> None:
    with pytest.raises(UserError) as refused:
        family_of_spec(spec(model, override))
    message = str(refused.value)
    assert "no Hugging Face family can express 'mine'" in message
    assert f"the nearest is {nearest} " in message
    assert reason in message


def test_a_hybrid_names_the_block_that_is_in_the_way() -> None:
    mixed = spec(
        LLAMA
        | {
            "blocks": {"near": {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}}, "far": {"layout": "post"}},
            "pattern": ["near", "far"],
        }
    )
    with pytest.raises(UserError, match=r"model\.blocks\.far\.layout: the spec has post"):
        family_of_spec(mixed)


def test_a_preferred_family_comes_before_a_plainer_one() -> None:
    assert family_of_spec(spec(LLAMA), "mistral").model_type == "mistral"
    assert family_of_spec(spec(GPT2), "mistral").model_type == "gpt2"


def test_a_named_family_says_what_it_cannot_express() -> None:
    assert named_family(spec(LLAMA), "mistral").model_type == "mistral"
    with pytest.raises(UserError, match=r"family gpt2 cannot express 'mine'(.|\n)*model\.block\.norm: the spec has rmsnorm"):
        named_family(spec(LLAMA), "gpt2")
    with pytest.raises(UserError, match=r"there is no family 'gpt5'; llmkit exports llama, "):
        named_family(spec(LLAMA), "gpt5")


def test_an_import_is_keyed_on_the_model_type_and_never_on_a_name() -> None:
    assert family_of_config({"model_type": "llama", "_name_or_path": "gpt2"}) is families()["llama"]
    with pytest.raises(UserError, match="model_type 'bert' is not a family that llmkit imports"):
        family_of_config({"model_type": "bert"})
    with pytest.raises(UserError, match=r"model_type \['llama'\] is not a family"):
        family_of_config({"model_type": ["llama"]})
    with pytest.raises(UserError, match="model_type None"):
        family_of_config({})
