"""From a spec to a model, with and without values."""

from __future__ import annotations

import resource
import time

import torch

import llmkit
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import initialise


def spec(seed: int = 0) -> Spec:
    model = {"d_model": 32, "n_layers": 2, "max_seq_len": 16, "position": "learned", "tie_embeddings": True}
    return llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": model, "train": {"steps": 1, "seed": seed}})


def same(left: Decoder, right: Decoder) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_built_on_meta_and_then_filled_is_the_one_built_directly() -> None:
    direct = Decoder(spec())
    initialise(direct, spec().model, 0)
    filled = build(spec(), device="meta")
    filled.to_empty(device="cpu")
    filled.tie_weights()
    filled.reset_buffers()
    initialise(filled, spec().model, 0)
    assert same(direct, filled) and same(direct, build(spec()))


def test_the_seed_is_the_specs_unless_given() -> None:
    assert same(build(spec(seed=3)), build(spec(seed=0), seed=3))
    assert not same(build(spec(seed=3)), build(spec(seed=0)))


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(spec())
    assert torch.equal(torch.rand(3), expected)


def test_a_model_of_405b_parameters_builds_on_meta_in_seconds_and_little_memory() -> None:
    llama = {
        "d_model": 16_384,
        "n_layers": 126,
        "max_seq_len": 131_072,
        "vocab_size": 128_256,
        "position": {"type": "rope", "theta": 5e5, "scaling": {"type": "llama3"}},
        "block": {"attention": {"type": "gqa", "n_heads": 128, "n_kv_heads": 8}, "ffn": {"type": "swiglu", "d_ff": 53_248}},
    }
    document = llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": llama, "train": {"steps": 1}})
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    model = build(document, device="meta")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.perf_counter() - start < 10
    assert grown < 200 * 1024
    assert sum(parameter.numel() for parameter in model.parameters()) == 405_853_388_800
    assert all(parameter.is_meta for parameter in model.parameters())
