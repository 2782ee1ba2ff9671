"""From a source to token files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from llmkit.core.component import Chosen, Component, Params
from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.data.batches import Batches
from llmkit.data.prepare import prepare, split_documents

MakeSpec = Callable[..., Spec]
BPE = {"type": "bpe", "vocab_size": 270}


def texts_of(tokenizer: Tokenizer, tokens: object) -> list[str]:
    return [tokenizer.decode(tokens.document(index).tolist()) for index in range(tokens.n_documents)]  # type: ignore[attr-defined]


def test_the_tokens_are_the_text(make_spec: MakeSpec) -> None:
    spec = make_spec(tokenizer=BPE)
    prepared = prepare(spec)
    sides: tuple[list[str], list[str]] = ([], [])
    for held_out, document in split_documents(spec):
        sides[held_out].append(document.text)
    assert texts_of(prepared.tokenizer, prepared.train) == sides[0]
    assert texts_of(prepared.tokenizer, prepared.validation) == sides[1]
    assert prepared.train.n_bytes == sum(len(text.encode()) for text in sides[0])
    assert [document.text for document in prepared.validation_documents()] == sides[1]
    assert prepared.validation.document_ids == [document.id for document in prepared.validation_documents()]


def test_a_trained_tokenizer_has_not_seen_the_validation_text(make_spec: MakeSpec) -> None:
    text = "".join(f"common words here {number}\n" for number in range(300))
    base = make_spec(text, tokenizer=BPE)
    held_out = [document.text for side, document in split_documents(base) if side]
    without = make_spec("".join(line + "\n" for line in text.splitlines() if line not in held_out[1:]), tokenizer=BPE)
    again = prepare(without).tokenizer.fingerprint()
    assert prepare(make_spec(text, tokenizer=BPE)).tokenizer.fingerprint() == again


def test_the_second_time_nothing_is_made(make_spec: MakeSpec) -> None:
    spec = make_spec(tokenizer=BPE)
    stages: list[str] = []
    first = prepare(spec, progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"reading", "training the tokenizer", "encoding"}
    stages.clear()
    again = prepare(spec, progress=lambda stage, done, total: stages.append(stage))
    assert stages == [] and again.fingerprint == first.fingerprint and again.tokenizer_directory == first.tokenizer_directory


def test_another_sequence_length_uses_the_same_tokens_and_other_text_does_not(make_spec: MakeSpec) -> None:
    first = prepare(make_spec())
    assert prepare(make_spec(model={"max_seq_len": 16})).fingerprint == first.fingerprint
    assert prepare(make_spec(data={"validation": 0.2})).fingerprint != first.fingerprint
    assert prepare(make_spec(tokenizer=BPE)).fingerprint != first.fingerprint
    assert prepare(make_spec("".join(f"{number} others\n" for number in range(200)))).fingerprint != first.fingerprint


def test_damaged_tokens_are_made_again(make_spec: MakeSpec) -> None:
    spec = make_spec()
    first = prepare(spec)
    before = first.train.read().tolist()
    path = first.train.directory / "train-00000.bin"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.warns(UserWarning, match="damaged"):
        assert prepare(spec).train.read().tolist() == before


def test_text_that_spells_end_of_text_stays_one_document(make_spec: MakeSpec) -> None:
    spec = make_spec("".join(f"<|endoftext|>{number}<|pad|>\n" for number in range(100)), tokenizer=BPE)
    prepared = prepare(spec)
    assert int((prepared.train.read() == prepared.tokenizer.eos_id).sum()) == prepared.train.n_documents + 1


def test_a_side_that_stays_empty_is_an_error_with_the_remedy(make_spec: MakeSpec) -> None:
    one = {"source": {"type": "text", "paths": [], "split": "file"}}
    spec = make_spec()
    one["source"]["paths"] = spec.data.source.params.paths
    with pytest.raises(UserError, match=r"yields 1 documents, none of which falls to (validation|training).*more documents"):
        prepare(make_spec(data=one))
    with pytest.raises(UserError, match="yields 1 documents"):
        prepare(make_spec(data=one, tokenizer=BPE))
    with pytest.raises(UserError, match="yields no text"):
        prepare(make_spec(" \n\n"))


def test_fewer_ids_than_declared_are_a_warning_with_both_numbers(make_spec: MakeSpec) -> None:
    spec = make_spec(tokenizer={"type": "bpe", "vocab_size": 4096})
    with pytest.warns(UserWarning, match=r"4096 ids and training on this text gave \d+"):
        prepared = prepare(spec)
    assert prepared.tokenizer.vocab_size < 4096 == spec.vocab_size


def test_more_ids_than_the_model_has_rows_are_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(UserError, match="100 is less than the tokenizer's 258 ids"):
        prepare(make_spec(model={"vocab_size": 100}))


def test_lone_surrogates_become_replacement_characters(make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halves.py").write_text(
        "from llmkit import Document, Source\n"
        "class Halves(Source):\n"
        "    def documents(self, shard, of):\n"
        "        return (Document(str(number), f'a {number} \\ud800 b') for number in range(60))\n"
        "    def fingerprint(self):\n"
        "        return 'halves'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec()
    source = Chosen(Component(Kind.source, "test.halves", Params, "halves:Halves", "half pairs"), Params())
    prepared = prepare(spec.model_copy(update={"data": spec.data.model_copy(update={"source": source})}))
    assert all("\ufffd b" in document.text for document in prepared.validation_documents())
    assert all("\ufffd b" in text for text in texts_of(prepared.tokenizer, prepared.train))


def test_it_imports_no_torch(make_spec: MakeSpec, tmp_path: Path) -> None:
    document = make_spec(tokenizer=BPE).model_dump(mode="json")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    code = (
        "import sys; from llmkit import load_spec; from llmkit.data.prepare import prepare\n"
        f"prepare(load_spec({str(tmp_path / 'spec.yaml')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_embedded_corpus_is_prepared(make_spec: MakeSpec) -> None:
    spec = make_spec(data={"source": "pydoc", "validation": 0.05}, tokenizer={"type": "bpe", "vocab_size": 4096})
    prepared = prepare(spec)
    total = prepared.train.n_bytes + prepared.validation.n_bytes
    assert 1_500_000 < total < 4_000_000
    assert 0.01 < prepared.validation.n_bytes / total < 0.15
    assert prepared.train.n_bytes / prepared.train.n_tokens > 3.5
    assert Batches(prepared.train, seq_len=256, batch_size=16, seed=0).n_sequences > 1500
