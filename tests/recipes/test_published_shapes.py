"""The recipes of published models, against the counts that their authors and Hugging Face publish."""

from __future__ import annotations

import resource
import time

import pytest

from llmkit import load_spec
from llmkit.model.count import Account, account

PUBLISHED = {
    "gpt2-small": (124_439_808, 36_864),
    "gpt2-medium": (354_823_168, 2 * 24 * 1024 * 2),
    "gpt2-large": (774_030_080, 2 * 36 * 1280 * 2),
    "gpt2-xl": (1_557_611_200, 2 * 48 * 1600 * 2),
    "llama2-7b": (6_738_415_616, 524_288),
    "llama2-13b": (13_015_864_320, 819_200),
    "llama3-8b": (8_030_261_248, 131_072),
    "llama3-70b": (70_553_706_496, 327_680),
    "llama3.1-405b": (405_853_388_800, 2 * 126 * 8 * 128 * 2),
    "llama3.2-1b": (1_235_814_400, 32_768),
    "mistral-7b": (7_241_732_096, 131_072),
}

CONFIGS = {
    "gpt2-medium": ("GPT2Config", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "llama2-7b": ("LlamaConfig", {}),
    "llama3.2-1b": (
        "LlamaConfig",
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "mistral-7b": ("MistralConfig", {}),
}


def counted(name: str) -> Account:
    return account(load_spec(f"recipe:{name}"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_parameters_and_cache_bytes(name: str) -> None:
    found = counted(name)
    assert (found.name, found.parameters.total, found.kv_cache_bytes_per_token) == (name, *PUBLISHED[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_recipe_has_the_parameters_of_transformers_model(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    configuration, options = CONFIGS[name]
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(getattr(transformers, configuration)(**options))
    theirs.tie_weights()
    assert counted(name).parameters.total == sum(parameter.numel() for parameter in theirs.parameters())


def test_405_billion_parameters_take_seconds_and_little_memory() -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    counted("llama3.1-405b")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # ru_maxrss is in kilobytes on Linux and in bytes on macOS: of either, this is far from the 1.6 TB of its weights.
    assert grown < 500_000 * 1024
    assert time.perf_counter() - began < 60


def test_a_windowed_cache_never_holds_more_than_its_window() -> None:
    mistral = counted("mistral-7b")
    assert mistral.kv_cache_bytes == 4096 * mistral.kv_cache_bytes_per_token
    llama = counted("llama3-8b")
    assert llama.kv_cache_bytes == 8192 * llama.kv_cache_bytes_per_token
