"""Runs out of Hugging Face directories and back: tokenizers, end tokens, what is trained on, and nothing left behind by a failure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop.proof import Proof
from llmkit.train import exchange
from llmkit.train.exchange import export_run, import_run
from llmkit.train.loop import train
from llmkit.train.run import RunDirectory, write_initialised

transformers = pytest.importorskip("transformers")

TEMPLATE = "{% for message in messages %}<|user|>{{ message.content }}<|end|>{% endfor %}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the hub has them: bf16, a tokenizer with a chat template, two end tokens."""
    directory = tmp_path_factory.mktemp("hf")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = [257, 258]
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def save_tokenizer(directory: Path) -> None:
    letters = pre_tokenizers.ByteLevel.alphabet()
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(sorted(letters))}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|endoftext|>", additional_special_tokens=["<|end|>", "<|user|>"]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)


def without_tokenizer(source: Path, target: Path) -> Path:
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns("tokenizer*", "chat_template*"))


def test_an_imported_run_has_the_tokenizer_its_chat_template_and_every_end_token(published: Path, tmp_path: Path) -> None:
    import_run(published, tmp_path / "run")
    run = llmkit.load_run(tmp_path / "run")
    assert run.tokenizer.stop_ids == {257, 258} and run.tokenizer.bos_id == 256
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "run/tokenizer")
    text = theirs.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False)
    assert text == "<|user|>Why?<|end|>"
    assert run.tokenizer.encode(text, specials=True) == theirs(text, add_special_tokens=False).input_ids
    assert json.loads((tmp_path / "run/proof.json").read_text())["greedy_tokens_equal"] is True
    assert json.loads((tmp_path / "run/manifest.json").read_text())["imported"] == "llama"
    assert run.spec.name == "run" and run.step == 0


def test_what_comes_back_is_what_went_in_tokenizer_and_half_precision_included(published: Path, tmp_path: Path) -> None:
    import_run(published, tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "back")
    before, after = load_file(published / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert all(after[name].dtype == torch.bfloat16 and torch.equal(before[name], after[name]) for name in before)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (published / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    assert json.loads((tmp_path / "back/generation_config.json").read_text())["eos_token_id"] == [257, 258]


def test_a_run_that_was_moved_reads_its_own_tokenizer(published: Path, tmp_path: Path) -> None:
    import_run(published, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    tokenizer = llmkit.load_run(tmp_path / "elsewhere").tokenizer
    assert tokenizer.decode(tokenizer.encode("text")) == "text"
    export_run(tmp_path / "elsewhere", tmp_path / "back")
    assert (tmp_path / "back/tokenizer.json").is_file()


def test_a_run_without_a_tokenizer_says_how_it_gets_one(published: Path, tmp_path: Path) -> None:
    bare = without_tokenizer(published, tmp_path / "hf")
    import_run(bare, tmp_path / "run")
    run = llmkit.load_run(tmp_path / "run")
    with pytest.raises(UserError, match="was imported without a tokenizer; import it again with --tokenizer FILE"):
        _ = run.tokenizer
    export_run(tmp_path / "run", tmp_path / "back")
    assert not (tmp_path / "back/tokenizer.json").exists()
    import_run(bare, tmp_path / "given", tokenizer=published / "tokenizer.json")
    tokenizer = llmkit.load_run(tmp_path / "given").tokenizer
    assert tokenizer.decode(tokenizer.encode("text")) == "text" and tokenizer.stop_ids == {257, 258}
    with pytest.raises(UserError, match=r"--tokenizer '.*' holds no tokenizer"):
        import_run(bare, tmp_path / "none", tokenizer=bare)


def test_a_trained_run_is_exported_with_its_own_tokenizer(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["train"]["steps"] = 2
    tiny["tokenizer"] = {"type": "bpe", "vocab_size": 300}
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    proof = export_run(tmp_path / "run", tmp_path / "hf")
    assert proof.architecture == "LlamaForCausalLM"
    run = llmkit.load_run(tmp_path / "run")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs("the model").input_ids == run.tokenizer.encode("the model")
    assert json.loads((tmp_path / "hf/generation_config.json").read_text())["eos_token_id"] == run.tokenizer.eos_id
    import_run(tmp_path / "hf", tmp_path / "again")
    again = llmkit.load_run(tmp_path / "again").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in run.model.state_dict().items())


def test_training_goes_on_from_an_import(published: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    import_run(published, tmp_path / "run")
    spec = llmkit.load_spec(
        tmp_path / "run/spec.yaml",
        [f"data={json.dumps(tiny['data'])}", "train.steps=1", "train.batch_size=2", "train.seq_len=16", "train.precision=fp32", "eval=[]"],
    )
    RunDirectory(tmp_path / "run").record_spec(spec)
    train(spec, out=tmp_path / "run")
    trained = llmkit.load_run(tmp_path / "run")
    assert trained.step == 1
    export_run(tmp_path / "run", tmp_path / "back")
    assert load_file(tmp_path / "back/model.safetensors")["model.norm.weight"].dtype == torch.float32


def test_rounding_is_proved_as_it_is_written(tiny: dict[str, Any], tmp_path: Path) -> None:
    write_initialised(llmkit.load_spec(tiny), tmp_path / "run")
    proof = export_run(tmp_path / "run", tmp_path / "hf", dtype="bf16", family="mistral")
    assert proof.holds and proof.architecture == "MistralForCausalLM"
    assert load_file(tmp_path / "hf/model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    with pytest.raises(UserError, match="--dtype 'fp8' must be one of fp32, bf16, fp16"):
        export_run(tmp_path / "run", tmp_path / "other", dtype="fp8")


def test_a_failing_proof_leaves_nothing_behind(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_run(published, tmp_path / "run")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(exchange, "prove", lambda model, directory: Proof("LlamaForCausalLM", 0.5, False, False, 1, 1, 1e-4, "5"))
    with pytest.raises(UserError, match="the proof failed"):
        import_run(published, tmp_path / "other")
    with pytest.raises(UserError, match="the proof failed"):
        export_run(tmp_path / "run", tmp_path / "hf")
    assert sorted(tmp_path.iterdir()) == before


def test_a_spec_that_no_family_can_say_leaves_nothing_behind(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["model"]["position"] = "alibi"
    write_initialised(llmkit.load_spec(tiny), tmp_path / "run")
    with pytest.raises(UserError, match=r"the nearest is llama(.|\n)*model\.position: the spec has alibi, llama has rope"):
        export_run(tmp_path / "run", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_what_is_there_already_is_never_written_over(published: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and not empty; name a new directory"):
        import_run(published, tmp_path / "run")
    with pytest.raises(UserError, match="does not exist; give a Hugging Face directory or a GGUF file"):
        import_run(tmp_path / "nowhere", tmp_path / "other")
    with pytest.raises(UserError, match=r"neither a directory nor a \.gguf file"):
        import_run(tmp_path / "run/notes.txt", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_directory_in_which_one_stands_is_a_place_to_write_to(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_initialised(llmkit.load_spec(tiny), tmp_path / "run")
    (tmp_path / "hf").mkdir()
    monkeypatch.chdir(tmp_path / "hf")
    assert export_run(tmp_path / "run", ".").holds
    assert (tmp_path / "hf/model.safetensors").is_file()


@pytest.mark.parametrize("size", ["banana", "5", "GB", "-1GB"])
def test_a_shard_size_that_is_none_is_refused_before_anything_is_read(tmp_path: Path, size: str) -> None:
    with pytest.raises(UserError, match=f"--shard-size '{size}' is no size; write a number and KB, MB, GB or TB"):
        export_run(tmp_path / "nowhere", tmp_path / "hf", shard_size=size)
