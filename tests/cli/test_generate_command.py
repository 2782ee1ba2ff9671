"""`llmkit generate` on runs with initial weights, made larger so that their tokens differ."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit import load_run, load_spec
from llmkit.cli import main
from llmkit.cli.generate import Stream, start
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.model.build import build
from llmkit.model.generate import generate
from llmkit.model.stop_strings import StopStrings
from llmkit.train import checkpoint
from llmkit.train.run import RunDirectory, write_initialised

SPEC = {
    "name": "speaker",
    "tokenizer": {"type": "bytes", "special_tokens": ["<|user|>"]},
    "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 64, "block": {"attention": {"type": "mha", "n_heads": 4}}},
    "train": {"steps": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generate") / "run"
    spec = load_spec(SPEC)
    write_initialised(spec, out)
    model = build(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    directory = RunDirectory(out)
    shutil.rmtree(directory.checkpoints)
    checkpoint.write(directory.checkpoints, 0, model, trainer={"tokens": 0, "seed": 0})
    directory.tokenizer.mkdir(exist_ok=True)
    spec.tokenizer.component.resolve().train(spec.tokenizer.params, []).save(directory.tokenizer)
    return out


@pytest.fixture
def llmkit(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object, on: Path = run) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llmkit", "generate", str(on), *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return code, *capsys.readouterr()

    return call


def completions(answer: tuple[int, str, str]) -> list[str]:
    code, out, err = answer
    assert code == 0, err
    document = json.loads(out)
    assert set(document) == {"completions", "tokens", "tokens_per_second"}
    assert document["tokens_per_second"] > 0
    return document["completions"]


def test_a_completion_begins_after_the_begin_of_text_token_and_the_prompt(llmkit: Any, run: Path) -> None:
    loaded = load_run(run)
    tokenizer = loaded.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode("a prompt")]
    expected = generate(
        loaded.model, [ids], max_new_tokens=20, temperature=0, stop_ids=tokenizer.stop_ids, vocab_limit=tokenizer.vocab_size
    )
    found = llmkit("--prompt", "a prompt", "--max-new-tokens", 20, "--temperature", 0, "--json")
    assert completions(found) == [tokenizer.decode(expected[0])]
    assert json.loads(found[1])["tokens"] == len(expected[0])
    without = llmkit("--prompt", "a prompt", "--max-new-tokens", 20, "--temperature", 0, "--json", "--no-bos")
    assert completions(without) != completions(found)


def test_a_special_token_written_in_the_prompt_is_special(run: Path) -> None:
    tokenizer = load_run(run).tokenizer
    special = tokenizer.special_tokens["<|user|>"]
    assert start(tokenizer, "<|user|>hi", bos=True) == [tokenizer.bos_id, special, *tokenizer.encode("hi")]
    assert start(tokenizer, "", bos=True) == [tokenizer.bos_id]


def test_an_empty_prompt_starts_from_nothing(llmkit: Any) -> None:
    assert len(completions(llmkit("--prompt", "", "--json"))) == 1


def test_completions_are_in_the_order_of_the_prompts_and_what_each_would_be_alone(llmkit: Any) -> None:
    options = ("--max-new-tokens", 12, "--seed", 5, "--temperature", 0.9, "--json")
    together = completions(llmkit("--prompt", "one", "--prompt", "and two", "--batch", 3, *options))
    assert len(together) == 6 and len(set(together)) == 6
    assert completions(llmkit("--prompt", "and two", "--batch", 3, *options)) == together[3:]
    assert completions(llmkit("--prompt", "one", *options)) == together[:1]


def test_the_seed_decides_the_text(llmkit: Any) -> None:
    first, again, other = (completions(llmkit("--prompt", "x", "--seed", seed, "--json")) for seed in (1, 1, 2))
    assert first == again != other


def test_end_tokens_stop_unless_ignored_and_never_show(llmkit: Any, run: Path) -> None:
    stopped, free = (
        json.loads(llmkit("--prompt", "z", "--batch", 40, "--temperature", 30, "--max-new-tokens", 60, *more, "--json")[1])
        for more in ((), ("--ignore-eos",))
    )
    assert free["tokens"] == 40 * 60 > stopped["tokens"]
    assert not any(special in text for text in free["completions"] for special in load_run(run).tokenizer.special_tokens)


def test_the_length_is_what_the_model_has_room_for_unless_given(llmkit: Any) -> None:
    document = json.loads(llmkit("--prompt", "12345", "--ignore-eos", "--json")[1])
    assert document["tokens"] == 64 - 6


def test_a_prompt_may_come_from_a_file(llmkit: Any, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("naïve", encoding="utf-8")
    written = completions(llmkit("--prompt-file", tmp_path / "prompt.txt", "--json"))
    assert written == completions(llmkit("--prompt", "naïve", "--json"))


def test_a_person_gets_the_text_alone_and_a_heading_where_there_are_several(llmkit: Any) -> None:
    [text] = completions(llmkit("--prompt", "q", "--temperature", 0, "--json"))
    code, out, err = llmkit("--prompt", "q", "--temperature", 0)
    assert (code, out) == (0, text + "\n") and "tokens" in err
    out = llmkit("--prompt", "q", "--prompt", "r", "--batch", 2)[1]
    assert [line for line in out.split("\n") if line.startswith("---")] == [
        f"--- prompt {prompt}, completion {completion}" for prompt in (1, 2) for completion in (1, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give --prompt TEXT"),
        (("--prompt", "", "--no-bos"), "leave out --no-bos"),
        (("--prompt", "a" * 80), "81 tokens, and 1 new ones would make 82, more than the model's max_seq_len of 64"),
        (("--prompt", "a", "--max-new-tokens", 100), "ask for at most 62 new tokens"),
        (("--prompt", "a", "--temperature", -1), "--temperature -1 must be 0"),
        (("--prompt", "a", "--top-p", 2), "--top-p 2 must be above 0 and at most 1"),
        (("--prompt-file", "missing.txt"), "cannot read --prompt-file 'missing.txt': No such file"),
    ],
)
def test_a_mistake_exits_2_with_its_remedy(llmkit: Any, arguments: tuple[object, ...], says: str) -> None:
    code, out, err = llmkit(*arguments, "--json")
    assert (code, out) == (2, "")
    assert says in err and "Traceback" not in err


@pytest.mark.parametrize("arguments", [("--top-k", "0"), ("--batch", "0"), ("--max-new-tokens", "-1"), ("--seed", "x")])
def test_an_argument_out_of_range_exits_2(llmkit: Any, arguments: tuple[str, ...]) -> None:
    code, _, err = llmkit("--prompt", "a", *arguments)
    assert code == 2 and arguments[0] in err


def test_a_run_that_is_not_there_and_one_without_a_checkpoint_exit_2(llmkit: Any, run: Path, tmp_path: Path) -> None:
    code, _, err = llmkit("--prompt", "a", on=tmp_path / "nowhere")
    assert code == 2 and "nowhere" in err
    shutil.copytree(run, tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty" / "checkpoints")
    code, _, err = llmkit("--prompt", "a", on=tmp_path / "empty")
    assert code == 2 and "checkpoint" in err


def test_streamed_text_is_the_text_and_waits_for_whole_characters(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer: Tokenizer = load_run(run).tokenizer
    text = "é→😀 and plain"
    stream, steps = Stream(tokenizer, StopStrings(tokenizer, [])), []
    for token in tokenizer.encode(text):
        stream(0, token)
        steps.append(capsys.readouterr().out)
    stream.end()
    assert "".join(steps) == text and capsys.readouterr().out == "\n"
    assert steps[:2] == ["", "é"]


def test_a_stream_holds_back_what_may_become_a_stop_string(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer: Tokenizer = load_run(run).tokenizer
    stream, steps = Stream(tokenizer, StopStrings(tokenizer, ["end."])), []
    for token in tokenizer.encode("an enemy, an end."):
        stream(0, token)
        steps.append(capsys.readouterr().out)
    assert steps[:6] == ["a", "n", " ", "", "", "en"]
    stream.end()
    assert "".join(steps) == "an enemy, an "


def test_a_completion_ends_before_a_stop_string(llmkit: Any) -> None:
    options = ("--prompt", "a prompt", "--max-new-tokens", 30, "--temperature", 0, "--json")
    (free,) = completions(llmkit(*options))
    stop = free[6:8]
    assert completions(llmkit(*options, "--stop", stop, "--stop", "\x00nowhere")) == [free[: free.index(stop)]]


@pytest.mark.slow
def test_a_compiled_run_writes_the_same_and_other_precisions_write(llmkit: Any) -> None:
    options = ("--prompt", "a prompt", "--max-new-tokens", 8, "--temperature", 0, "--json")
    assert completions(llmkit(*options, "--compile")) == completions(llmkit(*options))
    assert len(completions(llmkit(*options, "--precision", "bf16"))) == 1


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--min-p", "1.2", "--min-p 1.2 must be between 0 and 1"),
        ("--repetition-penalty", "0", "--repetition-penalty 0 must be above 0"),
        ("--stop", "", "a stop string is empty"),
        ("--precision", "fp8", "fp8"),
    ],
)
def test_a_wrong_value_is_refused_with_the_option(llmkit: Any, option: str, value: str, says: str) -> None:
    code, _, err = llmkit("--prompt", "a", option, value)
    assert code == 2 and says in err
