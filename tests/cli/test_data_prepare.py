"""`llmkit data prepare`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmkit.cli import main
from llmkit.data.delivery import deliver
from llmkit.data.funnel import read_funnel
from llmkit.data.prepare import prepare
from llmkit.data.tokens import TokenFile
from llmkit.runtime import load_spec

Told = tuple[int, str, str]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files with duplicates, short documents and a line that is cut in half."""
    monkeypatch.chdir(tmp_path)
    for name in ("books", "web"):
        texts = [f"document {number} of {name if number > 30 else 'all'} with enough words" for number in range(200)]
        texts += [f"short {number}" for number in range(20)]
        rows = [json.dumps({"text": text, "id": f"{name}-{number}"}) for number, text in enumerate(texts)]
        Path(f"{name}.jsonl").write_text("\n".join(rows) + '\n{"text": "cut in ha\n')
    words = {"type": "gopher_quality", "min_words": 5, "min_stop_words": 0, "min_alphabetic": 0}
    document = {
        "name": "library",
        "tokenizer": "bytes",
        "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 64, "block": {"attention": {"type": "mha", "n_heads": 2}}},
        "data": {
            "sources": {name: {"type": "jsonl", "paths": [f"{name}.jsonl"]} for name in ("books", "web")},
            "filters": {"words": words},
            "deduplicators": {"exact": "exact"},
            "cache": str(tmp_path / "cache"),
        },
        "train": {"steps": 2, "batch_size": 2},
    }
    path = tmp_path / "library.yaml"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def llmkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
        return code, *capsys.readouterr()

    return run


def test_the_json_says_what_became_of_every_document(spec: Path, llmkit: Any) -> None:
    code, out, err = llmkit("data", "prepare", str(spec), "--json")
    told = json.loads(out)
    assert code == 0 and "2 records were no documents" in err
    assert (told["name"], told["documents"], told["kept"], told["shards"]) == ("library", 440, 369, 4)
    stages = {stage["stage"]: (stage["in"], stage["out"], stage["removed"]) for stage in told["stages"]}
    assert stages == {
        "read": (442, 440, 2),
        "filters.words": (440, 400, 40),
        "deduplicators.exact": (400, 369, 31),
        "split": (369, 369, 0),
        "tokenize": (369, 369, 0),
    }
    assert told["tokens"] == told["bytes"] + told["kept"] and told["validation"]["documents"] > 5
    assert [source["source"] for source in told["sources"]] == ["books", "web"] and told["directory"] == str(Path("data/library"))
    saved = json.loads(Path("data/library/prepared.json").read_text())
    assert saved == {key: value for key, value in told.items() if key not in ("directory", "report")}


def test_the_directory_holds_all_that_a_stranger_needs(spec: Path, llmkit: Any) -> None:
    assert llmkit("data", "prepare", str(spec), "--out", "out")[0] == 0
    names = {path.name for path in Path("out").iterdir()}
    assert {"funnel.json", "prepared.json", "report.html", "train.json", "validation.json", "broken.jsonl", "tokenizer"} <= names
    manifest = json.loads(Path("out/train.json").read_text())
    tokens = np.memmap(f"out/{manifest['shards'][0]['name']}.bin", manifest["dtype"], mode="r")
    starts = np.memmap(f"out/{manifest['shards'][0]['name']}.starts.bin", "<u8", mode="r")
    name = json.loads(Path("out/train-00000.ids.jsonl").read_text().splitlines()[3])
    text = bytes(tokens[int(starts[3]) : int(starts[4]) - 1].astype(np.uint8)).decode()
    assert text == "document 3 of all with enough words" and name.startswith("books.jsonl#")
    broken = [json.loads(line) for line in Path("out/broken.jsonl").read_text().splitlines()]
    assert [Path(line["id"].partition("#")[0]).name for line in broken] == ["books.jsonl", "web.jsonl"]


def test_another_call_takes_the_place_of_the_first(spec: Path, llmkit: Any) -> None:
    assert llmkit("data", "prepare", str(spec), "--out", "out")[0] == 0
    (Path("out") / "train-00007.bin").write_bytes(b"of an earlier time")
    (Path("out") / "notes.txt").write_text("mine")
    assert llmkit("data", "prepare", str(spec), "--out", "out", "--set", "data.filters.words.min_words=1")[0] == 0
    assert not Path("out/train-00007.bin").exists() and Path("out/notes.txt").read_text() == "mine"
    assert json.loads(Path("out/prepared.json").read_text())["kept"] == 389


def test_what_it_did_not_write_is_never_taken_away(spec: Path, llmkit: Any) -> None:
    mine = {"train.json": "[1]", "tokenizer/mine.txt": "mine", "report.html": "mine"}
    for name, text in mine.items():
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_text(text)
        code, _, err = llmkit("data", "prepare", str(spec), "--out", "out")
        assert code == 2 and repr(name.partition("/")[0]) in err and "choose another directory with --out" in err
        assert {one: Path("out", one).read_text() for one in mine if Path("out", one).exists()} == {name: text}
        shutil.rmtree("out")
    Path("out").mkdir()
    notes = [Path("out", name) for name in ("train-notes.txt", "validation-2.csv", "train-00000.zip")]
    for note in notes:
        note.write_text("mine")
    for _ in range(2):
        assert llmkit("data", "prepare", str(spec), "--out", "out")[0] == 0
        assert all(note.read_text() == "mine" for note in notes)
    # As a call leaves it that is killed on the way.
    Path("out/prepared.json").rename("out/.prepared.json.part")
    assert llmkit("data", "prepare", str(spec), "--out", "out")[0] == 0
    assert Path("out/prepared.json").exists() and not Path("out/.prepared.json.part").exists()


def test_two_calls_for_one_directory_leave_what_one_of_them_made(spec: Path, llmkit: Any) -> None:
    with pytest.warns(UserWarning, match="no documents"):
        prepared = [prepare(load_spec(str(spec), overrides)) for overrides in ((), ["data.filters.words.min_words=1"])]
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda number: deliver(prepared[number % 2], Path("out")), range(40)))
    assert sorted(one["kept"] for one in told) == [369] * 20 + [389] * 20
    kept = json.loads(Path("out/prepared.json").read_text())["kept"]
    sides = [TokenFile(Path("out"), name) for name in ("train", "validation")]
    for side in sides:
        side.verify()
    assert sum(side.n_documents for side in sides) == kept == read_funnel(Path("out")).kept.documents


def test_a_person_reads_the_funnel_and_what_comes_next(spec: Path, llmkit: Any) -> None:
    code, out, _ = llmkit("data", "prepare", str(spec))
    lines = out.splitlines()
    assert code == 0 and [line.split("\t")[0] for line in lines[:5]] == [
        "read",
        "filters.words",
        "deduplicators.exact",
        "split",
        "tokenize",
    ]
    assert lines[-1] == f"next: llmkit train {spec}" and "4 shards" in lines[-2]


def test_training_reuses_what_was_prepared(spec: Path, llmkit: Any) -> None:
    assert llmkit("data", "prepare", str(spec))[0] == 0
    before = {path for path in Path("cache").rglob("seal.json") if "peak" not in str(path)}
    code, out, err = llmkit("train", str(spec), "--json")
    assert code == 0 and "preparing data" not in err and json.loads(out)["step"] == 2 and "were no documents" in err
    assert set(Path("cache").glob("to*/*/seal.json")) == {path for path in before if path.parts[1].startswith("to")}


def test_strict_is_the_users_mistake(spec: Path, llmkit: Any) -> None:
    code, _, err = llmkit("data", "prepare", str(spec), "--strict")
    assert code == 2 and "books.jsonl" in err and "leave --strict out" in err and "Traceback" not in err


def test_a_file_in_place_of_the_directory_is_named(spec: Path, llmkit: Any) -> None:
    Path("out").write_text("")
    code, _, err = llmkit("data", "prepare", str(spec), "--out", "out")
    assert code == 2 and "'out'" in err and "what is prepared is kept in data.cache" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_that_the_same_command_goes_on(spec: Path, number: int, code: int) -> None:
    rows = "".join(json.dumps({"text": f"document {index} of a long list with enough words " * 20}) + "\n" for index in range(4000))
    for name in ("books", "web"):
        Path(f"{name}.jsonl").write_text(rows)
    command = [sys.executable, "-m", "llmkit", "data", "prepare", str(spec), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(Path("cache").glob("read/*/seal.json")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "") and "the same command goes on from there" in err and "Traceback" not in err
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["documents"] == 8000
