"""The parameter counts of published models, from their published configurations alone, on the meta device.

Counts are those of the model cards' safetensors headers, or of the papers. A head that is tied to the embedding counts once.
"""

from __future__ import annotations

from typing import Any

import pytest

import llmkit
from llmkit.interop import families, spec_of

pytest.importorskip("transformers")


def sizes(d_model: int, d_ff: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": d_model,
        "intermediate_size": d_ff,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        **more,
    }


def neox(d_model: int, d_ff: int, layers: int, heads: int, vocab: int) -> dict[str, Any]:
    return {key: value for key, value in sizes(d_model, d_ff, layers, heads, heads, vocab).items() if key != "num_key_value_heads"}


def gpt2(d_model: int, layers: int, heads: int) -> dict[str, Any]:
    return {"n_embd": d_model, "n_layer": layers, "n_head": heads}


LLAMA3 = {
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
    "max_position_embeddings": 131072,
}  # fmt: skip

PUBLISHED: list[tuple[str, str, dict[str, Any], int]] = [
    ("gpt2", "openai-community/gpt2", gpt2(768, 12, 12), 124_439_808),
    ("gpt2", "openai-community/gpt2-medium", gpt2(1024, 24, 16), 354_823_168),
    ("gpt2", "openai-community/gpt2-large", gpt2(1280, 36, 20), 774_030_080),
    ("gpt2", "openai-community/gpt2-xl", gpt2(1600, 48, 25), 1_557_611_200),
    ("gpt_neox", "EleutherAI/pythia-70m", neox(512, 2048, 6, 8, 50304), 70_426_624),
    ("gpt_neox", "EleutherAI/pythia-160m", neox(768, 3072, 12, 12, 50304), 162_322_944),
    ("gpt_neox", "EleutherAI/pythia-410m", neox(1024, 4096, 24, 16, 50304), 405_334_016),
    ("gpt_neox", "EleutherAI/pythia-1b", neox(2048, 8192, 16, 8, 50304), 1_011_781_632),
    ("gpt_neox", "EleutherAI/pythia-1.4b", neox(2048, 8192, 24, 16, 50304), 1_414_647_808),
    ("gpt_neox", "EleutherAI/pythia-2.8b", neox(2560, 10240, 32, 32, 50304), 2_775_208_960),
    ("gpt_neox", "EleutherAI/pythia-6.9b", neox(4096, 16384, 32, 32, 50432), 6_857_302_016),
    ("gpt_neox", "EleutherAI/pythia-12b", neox(5120, 20480, 36, 40, 50688), 11_846_072_320),
    ("gpt_neox", "EleutherAI/gpt-neox-20b", neox(6144, 24576, 44, 64, 50432), 20_554_567_680),
    ("llama", "meta-llama/Llama-2-7b", sizes(4096, 11008, 32, 32, 32, 32000), 6_738_415_616),
    ("llama", "meta-llama/Llama-2-13b", sizes(5120, 13824, 40, 40, 40, 32000), 13_015_864_320),
    ("llama", "meta-llama/Llama-2-70b", sizes(8192, 28672, 80, 64, 8, 32000), 68_976_648_192),
    ("llama", "meta-llama/Meta-Llama-3-8B", sizes(4096, 14336, 32, 32, 8, 128256), 8_030_261_248),
    ("llama", "meta-llama/Meta-Llama-3-70B", sizes(8192, 28672, 80, 64, 8, 128256), 70_553_706_496),
    ("llama", "meta-llama/Llama-3.1-8B", sizes(4096, 14336, 32, 32, 8, 128256, **LLAMA3), 8_030_261_248),
    ("llama", "meta-llama/Llama-3.1-405B", sizes(16384, 53248, 126, 128, 8, 128256, **LLAMA3), 405_853_388_800),
    ("llama", "meta-llama/Llama-3.2-1B", sizes(2048, 8192, 16, 32, 8, 128256, True, head_dim=64, **LLAMA3), 1_235_814_400),
    ("llama", "meta-llama/Llama-3.2-3B", sizes(3072, 8192, 28, 24, 8, 128256, True, head_dim=128, **LLAMA3), 3_212_749_824),
    ("llama", "HuggingFaceTB/SmolLM2-135M", sizes(576, 1536, 30, 9, 3, 49152, True), 134_515_008),
    ("mistral", "mistralai/Mistral-7B-v0.1", sizes(4096, 14336, 32, 32, 8, 32000), 7_241_732_096),
    ("mistral", "mistralai/Mistral-7B-v0.3", sizes(4096, 14336, 32, 32, 8, 32768, sliding_window=None), 7_248_023_552),
    ("mistral", "mistralai/Mistral-Nemo-Base-2407", sizes(5120, 14336, 40, 32, 8, 131072, head_dim=128), 12_247_782_400),
    ("mixtral", "mistralai/Mixtral-8x7B-v0.1", sizes(4096, 14336, 32, 32, 8, 32000), 46_702_792_704),
    ("mixtral", "mistralai/Mixtral-8x22B-v0.1", sizes(6144, 16384, 56, 48, 8, 32000), 140_620_634_112),
    ("qwen2", "Qwen/Qwen2-0.5B", sizes(896, 4864, 24, 14, 2, 151936, True), 494_032_768),
    ("qwen2", "Qwen/Qwen2-1.5B", sizes(1536, 8960, 28, 12, 2, 151936, True), 1_543_714_304),
    ("qwen2", "Qwen/Qwen2-7B", sizes(3584, 18944, 28, 28, 4, 152064), 7_615_616_512),
    ("qwen2", "Qwen/Qwen2-72B", sizes(8192, 29568, 80, 64, 8, 152064), 72_706_203_648),
    ("qwen2", "Qwen/Qwen2.5-3B", sizes(2048, 11008, 36, 16, 2, 151936, True), 3_085_938_688),
    ("qwen2", "Qwen/Qwen2.5-14B", sizes(5120, 13824, 48, 40, 8, 152064), 14_770_033_664),
    ("qwen2", "Qwen/Qwen2.5-32B", sizes(5120, 27648, 64, 40, 8, 152064), 32_763_876_352),
    ("qwen3", "Qwen/Qwen3-0.6B", sizes(1024, 3072, 28, 16, 8, 151936, True, head_dim=128), 596_049_920),
    ("qwen3", "Qwen/Qwen3-1.7B", sizes(2048, 6144, 28, 16, 8, 151936, True, head_dim=128), 1_720_574_976),
    ("qwen3", "Qwen/Qwen3-4B", sizes(2560, 9728, 36, 32, 8, 151936, True, head_dim=128), 4_022_468_096),
    ("qwen3", "Qwen/Qwen3-8B", sizes(4096, 12288, 36, 32, 8, 151936, head_dim=128), 8_190_735_360),
    ("qwen3", "Qwen/Qwen3-14B", sizes(5120, 17408, 40, 40, 8, 151936, head_dim=128), 14_768_307_200),
    ("qwen3", "Qwen/Qwen3-32B", sizes(5120, 25600, 64, 64, 8, 151936, head_dim=128), 32_762_123_264),
    (
        "qwen3_moe",
        "Qwen/Qwen3-30B-A3B",
        sizes(2048, 6144, 48, 32, 4, 151936, head_dim=128, moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8),
        30_532_122_624,
    ),
    (
        "qwen3_moe",
        "Qwen/Qwen3-235B-A22B",
        sizes(4096, 12288, 94, 64, 4, 151936, head_dim=128, moe_intermediate_size=1536, num_experts=128, num_experts_per_tok=8),
        235_093_634_560,
    ),
    ("gemma", "google/gemma-2b", sizes(2048, 16384, 18, 8, 1, 256000, True, head_dim=256), 2_506_172_416),
    ("gemma", "google/gemma-7b", sizes(3072, 24576, 28, 16, 16, 256000, True, head_dim=256), 8_537_680_896),
    ("gemma2", "google/gemma-2-2b", sizes(2304, 9216, 26, 8, 4, 256000, True, head_dim=256), 2_614_341_888),
    ("gemma2", "google/gemma-2-9b", sizes(3584, 14336, 42, 16, 8, 256000, True, head_dim=256), 9_241_705_984),
    (
        "gemma2",
        "google/gemma-2-27b",
        sizes(4608, 36864, 46, 32, 16, 256000, True, head_dim=128, query_pre_attn_scalar=144),
        27_227_128_320,
    ),
    ("gemma3_text", "google/gemma-3-270m", sizes(640, 2048, 18, 4, 1, 262144, True, head_dim=256), 268_098_176),
    ("gemma3_text", "google/gemma-3-1b-pt", sizes(1152, 6912, 26, 4, 1, 262144, True, head_dim=256), 999_885_952),
    ("olmo2", "allenai/OLMo-2-0425-1B", sizes(2048, 8192, 16, 16, 16, 100352), 1_484_916_736),
    ("olmo2", "allenai/OLMo-2-1124-7B", sizes(4096, 11008, 32, 32, 32, 100352), 7_298_617_344),
    ("olmo2", "allenai/OLMo-2-1124-13B", sizes(5120, 13824, 40, 40, 40, 100352), 13_716_198_400),
    ("olmo2", "allenai/OLMo-2-0325-32B", sizes(5120, 27648, 64, 40, 8, 100352), 32_234_279_936),
    ("phi3", "microsoft/Phi-3-mini-4k-instruct", sizes(3072, 8192, 32, 32, 32, 32064), 3_821_079_552),
    ("phi3", "microsoft/Phi-3-medium-4k-instruct", sizes(5120, 17920, 40, 40, 10, 32064), 13_960_238_080),
    ("phi3", "microsoft/phi-4", sizes(5120, 17920, 40, 40, 10, 100352), 14_659_507_200),
    ("phi3", "microsoft/Phi-4-mini-instruct", sizes(3072, 8192, 32, 24, 8, 200064, True, partial_rotary_factor=0.75), 3_836_021_760),
    ("smollm3", "HuggingFaceTB/SmolLM3-3B", sizes(2048, 11008, 36, 16, 4, 128256, True), 3_075_098_624),
    ("deepseek_v3", "deepseek-ai/DeepSeek-V3", {}, 671_026_404_352),
]


@pytest.mark.parametrize(("model_type", "source", "config", "parameters"), PUBLISHED, ids=[row[1] for row in PUBLISHED])
def test_a_published_configuration_has_the_published_number_of_parameters(
    model_type: str, source: str, config: dict[str, Any], parameters: int
) -> None:
    spec = llmkit.load_spec(spec_of({"model_type": model_type, **config}))
    model = llmkit.build(spec, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_every_family_has_a_published_size() -> None:
    assert {row[0] for row in PUBLISHED} == set(families())
