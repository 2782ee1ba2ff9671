"""`llmkit ledger` on runs that were trained here: the passages that it names are, token for token, what the step was trained on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.cli import main
from llmkit.core.errors import UserError
from llmkit.data.batches import Batches
from llmkit.data.prepare import prepare
from llmkit.runtime import load_spec
from llmkit.train.ledger import read_step
from llmkit.train.loop import train

WORDS = ["stone", "river", "cloud", "grass", "storm", "light", "house", "bread", "water", "night"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ledger")
    (root / "text.txt").write_text("\n".join(" ".join(WORDS[(i * 7 + k * k) % 10] for k in range(5 + i)) for i in range(60)))
    document = {
        "name": "words",
        "tokenizer": "bytes",
        "model": {"d_model": 16, "n_layers": 1, "max_seq_len": 32, "block": {"attention": {"type": "mha", "n_heads": 2}}},
        "data": {"source": {"type": "text", "paths": [str(root / "text.txt")], "split": "line"}, "cache": str(root / "cache")},
        "train": {"steps": 3, "batch_size": 4, "precision": "fp32"},
    }
    train(load_spec(document), out=root / "run")
    return root


def test_the_passages_of_a_step_are_the_tokens_that_it_was_trained_on(root):
    spec = load_spec(root / "run" / "spec.yaml")
    tokens = prepare(spec).train
    batches = Batches(tokens, seq_len=32, batch_size=4, seed=0)
    text = {name: [*tokens.document(index).tolist(), tokens.eos_id] for index, name in enumerate(tokens.document_ids)}
    found = read_step(str(root / "run"), 2)
    batch = batches.batch(batches.items(1))
    for sequence, ids, targets in zip(found.sequences, batch.ids.tolist(), batch.targets.tolist(), strict=True):
        spelt = [token for part in sequence.passages for token in text[part.document][part.start : part.end]]
        # The file's own first token is the end-of-text before the first document.
        assert spelt == [*ids, targets[-1]][33 - len(spelt) :] and len(spelt) >= 32
    assert sum(tokens for _, tokens in found.documents()) >= 4 * 33 - 1


def test_json_names_every_document_once_with_its_tokens(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llmkit", "ledger", str(root / "run"), "--step", "3", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)
    row = json.loads((root / "run" / "ledger.jsonl").read_text().splitlines()[2])
    assert (found["step"], found["loss"], found["skipped"]) == (3, row["loss"], False)
    assert [sequence["item"] for sequence in found["sequences"]] == row["items"]
    names = [document["document"] for document in found["documents"]]
    assert len(set(names)) == len(names) and {part["document"] for one in found["sequences"] for part in one["passages"]} == set(names)


def test_a_step_that_the_ledger_lacks_is_refused_with_those_that_it_has(root, tmp_path):
    with pytest.raises(UserError, match=r"ledger\.jsonl' does not tell of step 9, but of steps 1 to 3; name one of these with --step"):
        read_step(str(root / "run"), 9)
    with pytest.raises(UserError, match="no run in 'nowhere'"):
        read_step("nowhere", 1)
    copy = shutil.copytree(root / "run", tmp_path / "torn")
    with (copy / "ledger.jsonl").open("a") as file:
        file.write('{"step": 4, "ite')
    with pytest.raises(UserError, match="steps 1 to 3"):
        read_step(str(copy), 4)


def test_tokens_that_are_gone_are_made_again_and_others_are_never_taken_for_them(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    spec = copy / "run" / "spec.yaml"
    spec.write_text(spec.read_text().replace(str(root), str(copy)))
    shutil.rmtree(copy / "cache")
    # A document's name has its file's place.
    assert json.dumps(read_step(str(copy / "run"), 1).row()).replace(str(copy), str(root)) == json.dumps(
        read_step(str(root / "run"), 1).row()
    )
    shutil.rmtree(copy / "cache")
    (copy / "text.txt").write_text((copy / "text.txt").read_text().replace("stone", "clay"))
    with pytest.raises(UserError, match=r"no longer in data\.cache.*bring back the text"):
        read_step(str(copy / "run"), 1)


def test_only_whole_tokens_that_this_llmkit_reads_are_looked_at(root, tmp_path):
    expected = read_step(str(root / "run"), 1)
    copy = shutil.copytree(root, tmp_path / "copy")
    (place,) = (copy / "cache/tokens").iterdir()
    manifest = json.loads((place / "train.json").read_text())
    earlier = {key: value for key, value in manifest.items() if key not in ("shards", "sources")} | {"format": 1}
    # Before the whole ones, in the order in which they are looked at.
    for name, written in {"0" * 24: json.dumps(earlier), "0" * 23 + "1.part": json.dumps(manifest), "0" * 23 + "2": '{"for'}.items():
        (copy / "cache/tokens" / name).mkdir()
        (copy / "cache/tokens" / name / "train.json").write_text(written)
    spec = copy / "run" / "spec.yaml"
    spec.write_text(spec.read_text().replace(str(root / "cache"), str(copy / "cache")))
    found = read_step(str(copy / "run"), 1)
    assert found.sequences == expected.sequences


def test_a_run_is_asked_without_importing_anything_heavy(root):
    probe = (
        "import sys; from llmkit.train.ledger import read_step; read_step(sys.argv[1], 1); "
        "print([name for name in ('torch', 'numpy', 'tokenizers', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe, str(root / "run")], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
