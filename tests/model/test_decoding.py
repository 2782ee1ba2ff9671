"""Decoding made ready: compiled and packed it says what the model says; int8 loses what it is said to lose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from llmkit import build, load_spec
from llmkit.model import decoding as decoding_module
from llmkit.model.decoder import Decoder
from llmkit.model.decoding import Decoding, PackedLinear, round_to_int8
from llmkit.model.generate import evaluating, generate
from llmkit.model.int8 import Int8Linear, quantised, refused

PROMPTS = [[1, 2, 3], [4], list(range(20, 39)), [7, 7]]


def decoder(**changes: Any) -> Decoder:
    """A model whose logits are far apart, so that rounding in fp32 decides nothing."""
    block = {
        "attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "bias": "qkv", "window": 12},
        "ffn": {"type": "swiglu", "d_ff": 50},
    }
    document = {"d_model": 32, "n_layers": 2, "max_seq_len": 48, "block": block, "logit_softcap": 20.0, **changes}
    model = build(load_spec({"tokenizer": "bytes", "model": document, "train": {"steps": 1}}), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


@pytest.mark.slow
def test_a_compiled_step_on_packed_weights_writes_what_the_model_writes() -> None:
    model = decoder()
    plain = generate(model, PROMPTS, max_new_tokens=25, temperature=0)
    decoding = Decoding(model, compiled=True)
    assert generate(decoding, PROMPTS, max_new_tokens=25, temperature=0) == plain
    assert [generate(decoding, [prompt], max_new_tokens=25, temperature=0)[0] for prompt in PROMPTS[:2]] == plain[:2]
    assert decoding.compiled
    assert len({token for row in plain for token in row}) > 10


def read_one_by_one(decoding: Decoding) -> torch.Tensor:
    """The logits (2, T, V) after each token of two texts, read a token at a time."""
    ids = torch.randint(0, 250, (2, 12), generator=torch.Generator().manual_seed(0))
    with evaluating(decoding.model):
        caches = decoding.model.new_caches(2, decoding.length(12))
        steps = [decoding.step(ids[:, [at]], torch.tensor([[at], [at]]), caches) for at in range(12)]
    return torch.stack(steps, dim=1)


def errors_of_int8() -> tuple[float, float]:
    """How far int8's logits are, in the mean, from those of the rounded model in fp32; and bf16's of the same."""
    model = decoder()
    made = read_one_by_one(Decoding(model, precision="int8", compiled=True))
    round_to_int8(model)
    exact, bf16 = read_one_by_one(Decoding(model)), read_one_by_one(Decoding(model, precision="bf16"))
    return float((made - exact).abs().mean()), float((bf16 - exact).abs().mean())


@pytest.mark.slow
def test_int8_is_the_model_with_all_that_is_rounded_as_near_as_bf16_comes() -> None:
    int8, bf16 = errors_of_int8()
    assert int8 < 1.3 * bf16


@pytest.mark.slow
def test_int8_without_its_kernel_says_so_and_is_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_module, "refused", lambda: "there is none")
    with pytest.warns(UserWarning, match="without its kernel, more slowly: there is none"):
        int8, bf16 = errors_of_int8()
    assert int8 < 2 * bf16


def test_bf16_is_a_copy_and_the_model_stays_as_it_was() -> None:
    model = decoder(tie_embeddings=True)
    decoding = Decoding(model, precision="bf16")
    assert decoding.model.head.weight is decoding.model.embedding.weight
    assert decoding.model.head.weight.dtype is torch.bfloat16 and model.head.weight.dtype is torch.float32
    assert len(generate(decoding, [[1, 2]], max_new_tokens=5)[0]) == 5


@pytest.mark.parametrize("out", [16, 40, 7])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(3,), (2, 5)])
def test_a_packed_layer_is_the_layer_whatever_its_width_and_the_rows(out: int, bias: bool, rows: tuple[int, ...]) -> None:
    linear = nn.Linear(24, out, bias=bias)
    x = torch.randn(*rows, 24)
    torch.testing.assert_close(PackedLinear(linear, None, int8=False)(x), linear(x))
    packed = PackedLinear(linear, torch.tanh, int8=True)
    integers, scale = quantised(linear.weight.detach())
    rounded = torch.nn.functional.linear(x, integers * scale[:, None], linear.bias)
    torch.testing.assert_close(packed(x), torch.tanh(rounded))


def test_int8_decoding_rounds_each_weight_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_module, "refused", lambda: "it would hold weights in an order of its own")
    model = decoder(tie_embeddings=True)
    packed: Any = Decoding(model, precision="int8", compiled=True, warn=lambda _: None)._stepping
    layers: dict[str, Any] = {name: module for name, module in packed.named_modules() if type(module) is PackedLinear}
    assert {"head", "blocks.1.ffn.down", "blocks.0.attention.query"} <= layers.keys()
    for name, layer in layers.items():
        linear: Any = model.get_submodule(name)
        integers, scale = quantised(linear.weight.detach())
        rows = layer.weight.transpose(1, 2).flatten(0, 1)[: layer.out]
        assert torch.equal(rows, integers) and torch.equal(layer.scale, scale)


@pytest.mark.skipif(refused() is not None, reason=f"no kernel: {refused()}")
def test_int8_decoding_projects_with_the_kernel_whatever_is_plain() -> None:
    packed: Any = Decoding(decoder(), precision="int8", compiled=True)._stepping
    kinds = {name: type(module) for name, module in packed.named_modules() if name.endswith(("query", "down", "head"))}
    assert kinds and set(kinds.values()) == {Int8Linear}


def test_the_packed_model_drops_nothing_though_it_was_made_of_a_model_in_training() -> None:
    model = decoder().train()
    packed: Any = Decoding(model, compiled=True)._stepping
    assert not any(module.training for module in packed.modules())
    assert model.training


def test_a_layer_of_anothers_own_is_left_as_it_is() -> None:
    class Adapted(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + 1

    model = decoder()
    ffn: Any = model.blocks[0].ffn
    ffn.down = Adapted(50, 32, bias=False)
    packed: Any = Decoding(model, compiled=True)._stepping
    assert type(packed.blocks[0].ffn.down) is Adapted
    assert type(packed.blocks[0].ffn.up) is PackedLinear


@pytest.mark.slow
def test_latent_attention_decodes_packed_what_it_decodes_plainly() -> None:
    attention = {"type": "mla", "n_heads": 4, "kv_lora_rank": 16, "nope_head_width": 6, "rope_head_width": 4, "value_head_width": 8}
    model = decoder(block={"attention": {**attention, "norm": "rmsnorm"}, "ffn": {"type": "swiglu", "d_ff": 48}})
    decoding = Decoding(model, compiled=True)
    packed: Any = decoding._stepping
    assert type(packed.blocks[0].attention.key_up) is nn.Linear and type(packed.blocks[0].attention.output) is PackedLinear
    assert generate(decoding, PROMPTS[:1], max_new_tokens=20, temperature=0) == generate(
        model, PROMPTS[:1], max_new_tokens=20, temperature=0
    )


def test_int8_without_a_compiled_step_is_refused() -> None:
    with pytest.raises(ValueError, match="give compiled=True"):
        Decoding(decoder(), precision="int8")


def test_a_machine_that_cannot_compile_is_told_so_and_goes_on() -> None:
    from torch._inductor import config
    from torch._inductor.utils import fresh_inductor_cache

    told: list[str] = []
    model = decoder()
    decoding = Decoding(model, compiled=True, warn=told.append)
    expected = generate(model, PROMPTS, max_new_tokens=8, temperature=0)
    with fresh_inductor_cache(), config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert generate(decoding, PROMPTS, max_new_tokens=8, temperature=0) == expected
    assert len(told) == 1 and "could not be compiled" in told[0]
