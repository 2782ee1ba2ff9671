"""Runs become GGUF files: transformers reads each back and says the same, and so, where it is at hand, does llama.cpp."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop import spec_of
from llmkit.interop.gguf import PRECISIONS, architecture_of_spec
from llmkit.interop.gguf.vocabulary import DIGITS, GPT2, GPT4O, LLAMA3, QWEN2, read_vocabulary
from llmkit.train.exchange import export_gguf, import_run
from llmkit.train.run import load_run

transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "../shared/data/tokenizer-fixtures/ggml-vocab-gpt-2.gguf"
GPT2_FILES = ROOT / "../shared/data/gpt2-tokenizer"
VOCAB, LENGTH, NEW = 290, 128, 48

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
}
LLAMA3_SCALING = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
GEMMA = {**SIZES, "head_dim": 24, "sliding_window": 9, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}
GEMMA3_TURNS = {"full_attention": {**LINEAR, "rope_theta": 500.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "llama": ("llama", {**SIZES, "head_dim": 24}, ()),
    "llama 3.1, tied": ("llama", {**SIZES, "rope_parameters": LLAMA3_SCALING, "tie_word_embeddings": True}, ("rope_parameters",)),
    "llama with biases and linear scaling": (
        "llama",
        {**SIZES, "attention_bias": True, "mlp_bias": True, "rope_parameters": LINEAR},
        ("attention_bias", "mlp_bias", "rope_parameters"),
    ),
    "llama with yarn": ("llama", {**SIZES, "rope_parameters": YARN}, ("rope_parameters",)),
    "mistral without a window": ("mistral", {**SIZES, "sliding_window": None}, ()),
    "qwen2": ("qwen2", {**SIZES, "tie_word_embeddings": True}, ("head_dim",)),
    "qwen3": ("qwen3", {**SIZES, "head_dim": 24}, ("head_dim",)),
    "gpt2": ("gpt2", {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": LENGTH, "n_inner": 96}, ()),
    "gemma2": ("gemma2", {**GEMMA, "num_hidden_layers": 4, "attn_logit_softcapping": 5.0}, ()),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7, "rope_parameters": GEMMA3_TURNS}, ()),
}
"""Family, configuration, and what transformers does not read from the file."""


def peaked(model_type: str, settings: dict[str, Any]) -> nn.Module:
    """Weights so large that attention is no average: a wrong angle or mask moves the logits."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, bos_token_id=286, eos_token_id=287, pad_token_id=None, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    centre = 0.0 if model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.25 if parameter.dim() > 1 else centre + 0.3 * torch.randn_like(parameter))
    return model.eval()


def save_tokenizer(directory: Path, expressions: tuple[str, ...] = (LLAMA3,)) -> None:
    """Byte-level BPE with a few merges, that cuts by these."""
    backend = Tokenizer(models.BPE())
    cuts = [
        pre_tokenizers.Digits(individual_digits=True) if one == DIGITS else pre_tokenizers.Split(Regex(one), "isolated")
        for one in expressions
    ]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - 4, initial_alphabet=letters, show_progress=False)
    backend.train_from_iterator([Path(__file__).read_text(encoding="utf-8"), "1999 2001 1999"], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|endoftext|>", additional_special_tokens=["<|end|>"]
    )
    fast.chat_template = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}"
    fast.save_pretrained(directory)


def imported(case: str, place: Path) -> Path:
    model_type, settings, _ = CASES[case]
    peaked(model_type, settings).save_pretrained(place / "hf")
    save_tokenizer(place / "hf")
    import_run(place / "hf", place / "run")
    return place / "run"


@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_the_file_and_says_the_same(case: str, tmp_path: Path) -> None:
    proof = export_gguf(imported(case, tmp_path), tmp_path / "out")
    assert proof.holds and set(proof.told) >= set(CASES[case][2])
    written = json.loads((tmp_path / "out/proof.json").read_text())
    assert written["greedy_tokens_equal"] is True and written["told"] == list(proof.told)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.gguf", "proof.json"]


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_reads_the_file_and_generates_the_same(case: str, tmp_path: Path) -> None:
    run = imported(case, tmp_path)
    model, tokenizer = load_run(run).model, load_run(run).tokenizer
    export_gguf(run, tmp_path / "out")
    ids = torch.randint(VOCAB - 4, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    text = "Once upon a time, there were 1999 Größen\n\n  and  they'll   say: 你好!"
    with llama_cpp(tmp_path / "out/model.gguf") as ask:
        made = ask(f"ids {NEW} {' '.join(map(str, ids))}")
        escaped = text.replace("\n", "\\n")
        assert ask(f"text {escaped}") == tokenizer.encode(text)
    with torch.no_grad():
        logits = model(torch.tensor([ids + made]))[0, len(ids) - 1 : -1]
    chosen = logits.gather(-1, torch.tensor(made)[:, None])[:, 0]
    assert len(made) == NEW and logits.std() > 1
    # Its cache is fp16: a token may be another one that is as likely to three digits.
    assert (logits.amax(dim=-1) - chosen).max() < 0.01


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "q8_0"])
def test_rounding_is_proved_as_it_is_written(precision: str, tmp_path: Path) -> None:
    run = imported("llama", tmp_path)
    assert export_gguf(run, tmp_path / "out", dtype=precision).holds
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out/model.gguf").tensors}
    kinds = {name: tensor.tensor_type.name for name, tensor in found.items()}
    assert kinds["output_norm.weight"] == kinds["blk.2.attn_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_q.weight"] == PRECISIONS[precision]
    original = load_run(run).model.blocks[0].ffn.up.weight.detach().numpy()
    read = gguf.dequantize(found["blk.0.ffn_up.weight"].data, found["blk.0.ffn_up.weight"].tensor_type)
    error = abs(read.reshape(original.shape) - original).max() / abs(original).max()
    assert error <= {"fp32": 0, "fp16": 2**-11, "bf16": 2**-8, "q8_0": 1 / 254 + 2**-10}[precision]


def test_rows_that_32_does_not_divide_are_fp16_beside_q8_0(tmp_path: Path) -> None:
    settings = {**SIZES, "hidden_size": 48, "intermediate_size": 96}
    peaked("llama", settings).save_pretrained(tmp_path / "hf")
    import_run(tmp_path / "hf", tmp_path / "run")
    assert export_gguf(tmp_path / "run", tmp_path / "out", dtype="q8_0").holds
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "out/model.gguf").tensors}
    assert kinds["blk.0.ffn_up.weight"] == "F16" and kinds["blk.0.ffn_down.weight"] == "Q8_0"


def test_half_precision_of_a_run_is_that_of_the_file(tmp_path: Path) -> None:
    peaked("llama", SIZES).to(torch.bfloat16).save_pretrained(tmp_path / "hf")
    import_run(tmp_path / "hf", tmp_path / "run")
    export_gguf(tmp_path / "run", tmp_path / "out")
    assert {tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "out/model.gguf").tensors} == {"BF16", "F32"}


REFUSED = [
    ("llama", {**SIZES, "hidden_act": "gelu"}, "hidden_act: the model has gelu, llama.cpp's llama has silu"),
    ("llama", {**SIZES, "rope_parameters": {**LINEAR, "rope_type": "dynamic"}}, "rope_type: the model has dynamic"),
    (
        "llama",
        {**SIZES, "rope_parameters": {**YARN, "attention_factor": 1.5}},
        "attention_factor: the model has 1.5, llama.cpp takes",
    ),
    ("mistral", {**SIZES, "sliding_window": 9}, "model.block.attention.window: the spec has 9, llama has none"),
    (
        "qwen2",
        {**SIZES, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
        "use_sliding_window: the model has True, llama.cpp's qwen2 has False",
    ),
    ("gemma2", {**GEMMA, "query_pre_attn_scalar": 16}, "query_pre_attn_scalar: the model has 16, llama.cpp's gemma2 has 24"),
    ("gemma3_text", {**GEMMA, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}, "layer_types: "),
]


@pytest.mark.parametrize(("model_type", "settings", "reason"), REFUSED)
def test_what_llama_cpp_has_no_key_for_is_refused(model_type: str, settings: dict[str, Any], reason: str) -> None:
    spec = llmkit.load_spec(spec_of({"model_type": model_type, **settings}))
    with pytest.raises(UserError, match=rf"no GGUF architecture can express (.|\n)*{re.escape(reason)}"):
        architecture_of_spec(spec)


def test_an_architecture_is_chosen_by_name_or_refused() -> None:
    spec = llmkit.load_spec(spec_of({"model_type": "llama", **SIZES}))
    assert architecture_of_spec(spec).name == architecture_of_spec(spec, "llama").name == "llama"
    with pytest.raises(UserError, match=r"llama\.cpp's gpt2 cannot express(.|\n)*model\.position: the spec has rope, gpt2 has learned"):
        architecture_of_spec(spec, "gpt2")
    with pytest.raises(UserError, match="writes no GGUF architecture 'rwkv'; it writes llama, qwen2, qwen3, gpt2, gemma2, gemma3"):
        architecture_of_spec(spec, "rwkv")


@pytest.mark.parametrize(
    ("expressions", "name"),
    [((GPT2,), "gpt-2"), ((DIGITS, GPT2), "smollm"), ((LLAMA3,), "smaug-bpe"), ((QWEN2,), "qwen2"), ((GPT4O,), "gpt-4o")],
)
def test_a_way_of_cutting_text_has_the_name_that_llama_cpp_cuts_by(expressions: tuple[str, ...], name: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, expressions)
    found = read_vocabulary(tmp_path, VOCAB, {}, begins=True)
    assert found.cut == name and found.begins and found.chat_template is not None
    assert found.tokens[286:] == ["<|begin|>", "<|endoftext|>", "<|end|>", "[PAD289]"] and found.kinds[285:] == [1, 3, 3, 3, 5]
    assert found.roles == {"bos": 286, "eos": 287}
    given = read_vocabulary(tmp_path, VOCAB, {"bos_token_id": 286, "eos_token_id": [288, 287]}, begins=False)
    assert given.roles == {"bos": 286, "eos": 288, "eot": 287} and not given.begins


@pytest.mark.parametrize(
    ("params", "name"), [({}, "smaug-bpe"), ({"digits": 1}, "qwen2"), ({"pattern": "gpt2"}, "gpt-2"), ({"digits": 2}, None)]
)
def test_tokenizers_that_are_trained_here_have_names_too(params: dict[str, Any], name: str | None, tmp_path: Path) -> None:
    slot = {"type": "bpe", "vocab_size": 280, **params}
    spec = llmkit.load_spec({"tokenizer": slot, "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 16}})
    spec.tokenizer.component.resolve().train(spec.tokenizer.params, [Path(__file__).read_text(encoding="utf-8")]).save(tmp_path)
    if name is not None:
        assert read_vocabulary(tmp_path, 280, {}, begins=True).cut == name
        return
    with pytest.raises(UserError, match=r"it cuts text by .*for which llama\.cpp has no name"):
        read_vocabulary(tmp_path, 280, {}, begins=True)


@pytest.mark.skipif(not FIXTURE.is_file(), reason="llama.cpp's own vocabulary of GPT-2 is not beside this repository")
def test_the_vocabulary_of_gpt2_is_the_one_that_llama_cpp_publishes(tmp_path: Path) -> None:
    slot = {"type": "pretrained", "path": str(GPT2_FILES / "encoder.json")}
    spec = llmkit.load_spec({"tokenizer": slot, "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 16}})
    spec.tokenizer.component.resolve().train(spec.tokenizer.params, ()).save(tmp_path)
    found = read_vocabulary(tmp_path, 50257, {"bos_token_id": 50256, "eos_token_id": 50256}, begins=True)
    fields = gguf.GGUFReader(FIXTURE).fields
    theirs = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in fields.items() if "tokenizer" in name}
    assert found.tokens == theirs["tokens"] and found.kinds == theirs["token_type"] and found.merges == theirs["merges"]
    assert found.cut == theirs["pre"] and found.roles == {"bos": theirs["bos_token_id"], "eos": theirs["eos_token_id"]}


@pytest.mark.parametrize(
    ("expressions", "reason"),
    [
        ((r"\p{N}{1,2}",), r"it cuts text by .*, for which llama\.cpp has no name that llmkit knows; it knows gpt-2"),
        ((GPT2, LLAMA3), r"it cuts text by .* then .*, for which llama\.cpp has no name"),
    ],
)
def test_a_tokenizer_whose_way_of_cutting_has_no_name_is_refused(expressions: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, expressions)
    with pytest.raises(UserError, match=f"cannot be written as GGUF: {reason}.*; write the model without it by --no-tokenizer"):
        read_vocabulary(tmp_path, VOCAB, {}, begins=True)


def test_bytes_and_word_models_are_no_vocabulary_for_llama_cpp(tmp_path: Path) -> None:
    cases = [("bytes", {}, "it cuts text by nothing"), ("wordpiece", {"vocab_size": 520}, "it is no byte-level byte-pair encoding")]
    for kind, more, reason in cases:
        spec = llmkit.load_spec({"tokenizer": {"type": kind, **more}, "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 16}})
        spec.tokenizer.component.resolve().train(spec.tokenizer.params, ["some words of text"]).save(tmp_path)
        with pytest.raises(UserError, match=reason):
            read_vocabulary(tmp_path, 520, {}, begins=True)


@pytest.mark.parametrize("case", ["llama 3.1, tied", "qwen3"])
def test_a_file_that_transformers_would_misread_is_not_imported(case: str, tmp_path: Path) -> None:
    export_gguf(imported(case, tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match=r"scales its rotary positions \(llama3\)|has heads of width 24, and transformers reads 128"):
        import_run(tmp_path / "out/model.gguf", tmp_path / "again")


def test_a_file_comes_back_as_it_went(tmp_path: Path) -> None:
    run = imported("llama", tmp_path)
    export_gguf(run, tmp_path / "out")
    import_run(tmp_path / "out/model.gguf", tmp_path / "again")
    before, after = load_run(run), load_run(tmp_path / "again")
    state = after.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in before.model.state_dict().items())
    text = "Once upon a time, there were 1999 of them."
    assert after.tokenizer.encode(text) == before.tokenizer.encode(text) and after.tokenizer.bos_id == before.tokenizer.bos_id


@contextmanager
def llama_cpp(file: Path) -> Iterator[Callable[[str], list[int]]]:
    """llama.cpp with a file, to be asked as `benchmarks/llama_cpp.cpp` says; skips where `LLAMA_CPP` does not say how that is run."""
    if not os.environ.get("LLAMA_CPP"):
        pytest.skip("llama.cpp is not here: compile benchmarks/llama_cpp.cpp against it, and name the program in LLAMA_CPP")
    program, *backends = shlex.split(os.environ["LLAMA_CPP"])
    with subprocess.Popen([program, str(file), "1", *backends], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None and stdout.readline() == "ready\n"

        def ask(request: str) -> list[int]:
            stdin.write(request + "\n")
            stdin.flush()
            return [int(index) for index in stdout.readline().split()]

        yield ask
        stdin.close()
