"""The tokenizer `bpe`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams


def learned(tokenizer: BytePair, directory: Path) -> list[str]:
    tokenizer.save(directory)
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    return ["".join(pair) for pair in model["merges"]]


def test_merges_take_the_most_frequent_pair_first(tmp_path: Path) -> None:
    # The dictionary of Sennrich et al., arXiv 1508.07909, algorithm 1. `er` stands in 9 words, then `lo` and `ow` in 7, which join.
    words = {"low": 5, "lowest": 2, "newer": 6, "wider": 3}
    tokenizer = BytePair.train(BpeParams(vocab_size=256 + 2 + 3), ["\n".join([word] * count) for word, count in words.items()])
    merges = learned(tokenizer, tmp_path)
    assert merges[0] == "er" and merges[1] in ("lo", "ow") and merges[2] == "low"


def test_training_twice_gives_the_same_tokenizer() -> None:
    texts = ["a rose is a rose is a rose", "by any other name", "would smell as sweet"] * 3
    made = [BytePair.train(BpeParams(vocab_size=300), texts) for _ in range(2)]
    assert made[0].fingerprint() == made[1].fingerprint()


def test_a_small_text_yields_fewer_ids_than_declared() -> None:
    params = BpeParams(vocab_size=5000)
    tokenizer = BytePair.train(params, ["abc abc"])
    assert params.vocab_size == 5000 and 258 < tokenizer.vocab_size < 300


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_no_token_has_more_digits_than_asked_for(digits: int) -> None:
    tokenizer = BytePair.train(BpeParams(vocab_size=400, digits=digits), ["1234567890 " * 50])
    ids, spans = tokenizer.encode_offsets("1234567890")
    assert max(end - start for start, end in spans) == digits and len(ids) == -(-10 // digits)


def test_min_frequency_keeps_rare_pairs_from_being_merged() -> None:
    texts = ["xy xy xy", "qz"]
    assert len(BytePair.train(BpeParams(vocab_size=300, min_frequency=2), texts).encode("qz")) == 2
    assert len(BytePair.train(BpeParams(vocab_size=300, min_frequency=1), texts).encode("qz")) == 1


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"vocab_size": 200}, "vocab_size 200 is too small"),
        ({"vocab_size": 258, "special_tokens": ["<|a|>"]}, "need 259"),
        ({"vocab_size": 300, "special_tokens": ["x"]}, "two or more"),
        ({"vocab_size": 300, "special_tokens": ["<|é|>"]}, "ASCII"),
        ({"vocab_size": 300, "special_tokens": ["<|pad|>"]}, "always there"),
        ({"vocab_size": 300, "special_tokens": ["<|a|>", "<|a|>"]}, "differ"),
    ],
)
def test_impossible_parameters_are_refused_with_the_reason(params: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BpeParams.model_validate(params)


@pytest.mark.parametrize("special", ["user", "###", "<s"])
def test_a_special_token_that_reads_like_text_is_refused(special: str) -> None:
    with pytest.raises(UserError, match="reads like ordinary text"):
        BytePair.train(BpeParams(vocab_size=300, special_tokens=[special]), ["user ### <s"])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    tokenizer = BytePair.train(BpeParams(vocab_size=300), ["a b c"])
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        BytePair.load(tokenizer.params, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"cannot read tokenizer"):
        BytePair.load(tokenizer.params, tmp_path)


def test_a_text_without_end_is_learned_from_in_pieces_of_it() -> None:
    short = [f"line {number} of it, and again line {number % 7}\n" for number in range(20_000)]
    assert len("".join(short)) > 600_000
    params = BpeParams(vocab_size=400)
    assert BytePair.train(params, ["".join(short)]).fingerprint() == BytePair.train(params, short).fingerprint()
