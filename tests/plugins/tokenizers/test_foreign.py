"""The tokenizer `pretrained` on tiktoken's and SentencePiece's files, beside the libraries that make them."""

from __future__ import annotations

import base64
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.components import PATTERNS, PretrainedParams
from llmkit.plugins.tokenizers.files import read_json
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.utf8 import spelling
from llmkit.testing.lawbook.tokenizer import NASTY

tiktoken = pytest.importorskip("tiktoken")
sentencepiece = pytest.importorskip("sentencepiece")

DATA = Path(__file__).parents[3] / "../shared/data"
GPT2 = DATA / "gpt2-tokenizer"
FIXTURE = DATA / "tokenizer-fixtures/ggml-vocab-gpt-2.gguf.inp"
HARD = [
    *NASTY,
    *(FIXTURE.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n") if FIXTURE.exists() else ()),
    "<s>", "a</s>b", "<unk> <0x41> <0x0A>", "▁", " ▁ a▁▁b ▁", "   leading and trailing   ", "\t tab\u3000wide", "ﬁ ① Å ½ ｱｲｳ \u210c",
    "HELLO'LL \u017fo'S K'Re camelCaseHTTPServer ÄÖÜß ǅ", "1234567 ٣٤٥ ⅷ", "a\u0301\u0302\u0303 क्षि ไทย 한국어 각", "\x1c\x85\u180e\u2003x",
]  # fmt: skip
CORPUS = [
    "the quick brown fox jumps over the lazy dog, and the dog doesn't mind it at all",
    "HELLO World, it's 12345 o'clock; we'LL see THE END of httpServers and XMLParsers",
    "naïve café, Bügeleisen, 你好世界, здравствуй мир, مرحبا, 🦙🦙 and a family",
    "def f(x):\n    return x  # a comment with 1, 22, 333 and 4444 numbers\n\n\n    else",
    *(f"{word} {word}s {word}ing the {word}er" for word in ("walk", "talk", "jump", "low", "new", "wide", "read")),
] * 8
samples = st.sampled_from([*HARD, "<", "s>", "▁", "  ", "<0x41>"])
texts = st.lists(st.one_of(st.text(max_size=10), samples), max_size=6).map("".join)
# The `tokenizers` library normalises by graphemes: marks in no canonical order and CR LF are known to come out otherwise.
characters = st.characters(exclude_categories=["Cs", "Cf", "Mn", "Mc", "Me"], exclude_characters="\r")
canonical = st.lists(st.one_of(st.text(characters, max_size=10), samples), max_size=6).map("".join)


def lines_of(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiktoken file with the merges that tiktoken's own trainer finds in a small text."""
    from tiktoken._educational import bpe_train

    path = tmp_path_factory.mktemp("ranks") / "small.tiktoken"
    ranks = bpe_train(data="\n".join(CORPUS[:11]), vocab_size=500, pat_str=PATTERNS["gpt2"], visualise=None)
    path.write_bytes(lines_of(ranks))
    return path


@cache
def encoding(path: Path, name: str) -> Any:
    """tiktoken's own tokenizer of a file, with its own pattern of that name."""
    from tiktoken import load
    from tiktoken_ext import openai_public

    patterns = {"gpt2": openai_public.r50k_pat_str}
    for public in ("cl100k", "o200k"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
            patterns[public] = getattr(openai_public, f"{public}_base")()["pat_str"]
    ranks = load.load_tiktoken_bpe(str(path))
    return tiktoken.Encoding("own", pat_str=patterns[name], mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)})


@cache
def ours(path: Path, pattern: str | None = None) -> Pretrained:
    return Pretrained.train(PretrainedParams(path=str(path), pattern=pattern), ())


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_a_tiktoken_file_gives_tiktokens_ids(ranked: Path, pattern: str, text: str) -> None:
    theirs = encoding(ranked, pattern)
    assert ours(ranked, pattern).encode(text) == theirs.encode_ordinary(text)
    assert ours(ranked, pattern).decode(theirs.encode_ordinary(text)) == text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_tiktoken_file_gives_tiktokens_ids_for_hard_strings(ranked: Path, pattern: str) -> None:
    theirs = encoding(ranked, pattern).encode_ordinary_batch(HARD)
    assert ours(ranked, pattern).encode_batch(HARD) == theirs
    marked = "a<|endoftext|>b"
    assert ours(ranked, pattern).encode(marked, specials=True) == encoding(ranked, pattern).encode(marked, allowed_special="all")


@pytest.mark.skipif(not GPT2.exists(), reason="GPT-2's vocabulary is not on this machine")
def test_gpt2s_ranks_give_the_published_ids_of_47_hard_strings(tmp_path: Path) -> None:
    letters = {character: byte for byte, character in enumerate(spelling())}
    vocabulary = read_json(GPT2 / "encoder.json")
    ranks = {bytes(letters[letter] for letter in token): rank for token, rank in vocabulary.items() if token != "<|endoftext|>"}
    path = tmp_path / "r50k_base.tiktoken"
    path.write_bytes(lines_of(ranks))
    golden = [[int(index) for index in line.split()] for line in FIXTURE.with_suffix(".out").read_text().split("\n")]
    params = PretrainedParams(path=str(path), pattern="gpt2")
    tokenizer = Pretrained.train(params, ())
    assert tokenizer.encode_batch(FIXTURE.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")) == golden
    assert params.vocab_size == tokenizer.vocab_size == 50257 and tokenizer.eos_id == 50256
    assert tokenizer.encode_batch(HARD) == encoding(path, "gpt2").encode_ordinary_batch(HARD)


def test_special_tokens_of_a_tiktoken_file_have_the_ids_that_they_are_given(ranked: Path, tmp_path: Path) -> None:
    given_ids = {"<|endoftext|>": 507, "<|pad|>": 503}
    params = PretrainedParams(path=str(ranked), pattern="cl100k", special_tokens=given_ids)
    tokenizer = Pretrained.train(params, ())
    assert tokenizer.special_tokens == given_ids and params.vocab_size == tokenizer.vocab_size == 508
    tokenizer.save(tmp_path)
    loaded = Pretrained.load(params, tmp_path)
    assert loaded.fingerprint() == tokenizer.fingerprint() and loaded.encode_batch(HARD) == tokenizer.encode_batch(HARD)
    with pytest.raises(UserError, match=r"'<x>' cannot have the id 5.*first free one is 500"):
        Pretrained.train(PretrainedParams(path=str(ranked), pattern="cl100k", special_tokens={"<x>": 5}), ())


def test_a_file_of_ranks_is_known_by_what_it_holds(ranked: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(ranked.read_bytes())
    params = PretrainedParams(path=str(tmp_path), pattern="cl100k")
    assert params.vocab_size == 501 and Pretrained.train(params, ()).encode("the dog") == ours(ranked, "cl100k").encode("the dog")


def test_mistakes_with_ranks_are_named(ranked: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not say how text is cut.*gpt2, cl100k, o200k"):
        Pretrained.train(PretrainedParams(path=str(ranked)), ())
    with pytest.raises(UserError, match=r"pattern '\(' is neither gpt2"):
        Pretrained.train(PretrainedParams(path=str(ranked), pattern="("), ())
    path = tmp_path / "bad.tiktoken"
    for damage, words in ((b"YQ==\n", "line 501"), (b"YWI= 3\n", "two tokens one rank")):
        path.write_bytes(ranked.read_bytes() + damage)
        with pytest.raises(UserError, match=words):
            _ = PretrainedParams(path=str(path)).vocab_size
    path.write_bytes(ranked.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(UserError, match="no token for byte"):
        _ = PretrainedParams(path=str(path)).vocab_size


MODELS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "vocab_size": 300},
    "unigram with bytes": {"model_type": "unigram", "vocab_size": 480, "byte_fallback": True, "character_coverage": 0.98},
    "unigram that keeps spaces": {
        "model_type": "unigram", "vocab_size": 480, "byte_fallback": True, "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity", "add_dummy_prefix": False, "split_by_whitespace": False,
    },
    "unigram with pieces of its own": {"model_type": "unigram", "vocab_size": 320, "user_defined_symbols": ["<sep>", "jump", "=>"]},
    "unigram nfkc, case folded": {"model_type": "unigram", "vocab_size": 300, "normalization_rule_name": "nmt_nfkc_cf"},
    "bpe": {"model_type": "bpe", "vocab_size": 300},
    "bpe of Llama 2": {
        "model_type": "bpe", "vocab_size": 480, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True, "allow_whitespace_only_pieces": True, "character_coverage": 0.98,
    },
    "bpe of Gemma": {
        "model_type": "bpe", "vocab_size": 480, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "add_dummy_prefix": False, "user_defined_symbols": ["\n\n", "<start_of_turn>"],
        "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model of each sort, trained by SentencePiece itself."""
    root = tmp_path_factory.mktemp("models")
    for name, options in MODELS.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_prefix=str(root / name), hard_vocab_limit=False, minloglevel=2, num_threads=1, **options
        )
    return root


@cache
def processor(path: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def as_good(path: Path, text: str) -> bool:
    """Whether the ids are SentencePiece's, or another cut that is as likely: of equals, floats decide."""
    found, theirs = ours(path).encode(text), processor(path).encode(text)
    if found == theirs:
        return True
    scores = [sum(map(processor(path).get_score, ids)) for ids in (found, theirs)]
    return "unigram" in path.name and scores[0] == pytest.approx(scores[1], abs=1e-4) and sorted(found) == sorted(theirs)


@pytest.mark.parametrize("name", MODELS)
def test_a_sentencepiece_model_gives_sentencepieces_ids_for_hard_strings(made: Path, name: str) -> None:
    path = made / f"{name}.model"
    assert [text for text in HARD + CORPUS[:11] if not as_good(path, text)] == []
    assert [text for text in CORPUS[:11] if ours(path).encode(text) != processor(path).encode(text)] == []


@pytest.mark.parametrize("name", MODELS)
@given(text=canonical)
@settings(max_examples=60, deadline=None)
def test_a_sentencepiece_model_gives_sentencepieces_ids(made: Path, name: str, text: str) -> None:
    assert as_good(made / f"{name}.model", text)


@pytest.mark.parametrize("name", [name for name, options in MODELS.items() if "byte_fallback" in options])
def test_it_decodes_as_sentencepiece_does(made: Path, name: str) -> None:
    path = made / f"{name}.model"
    for text in HARD + CORPUS[:11]:
        ids = processor(path).encode(text)
        assert ours(path).decode(ids) == processor(path).decode(ids), repr(text)


@pytest.mark.parametrize("name", MODELS)
def test_it_knows_its_size_and_its_roles_and_stays_itself_when_saved(made: Path, name: str, tmp_path: Path) -> None:
    path = made / f"{name}.model"
    params, theirs = PretrainedParams(path=str(path)), processor(path)
    tokenizer = ours(path)
    assert params.vocab_size == tokenizer.vocab_size == theirs.vocab_size()
    assert (tokenizer.bos_id, tokenizer.eos_id) == (theirs.bos_id(), theirs.eos_id())
    assert tokenizer.pad_id == (theirs.pad_id() if theirs.pad_id() >= 0 else theirs.eos_id())
    tokenizer.save(tmp_path)
    loaded = Pretrained.load(params, tmp_path)
    assert loaded.fingerprint() == tokenizer.fingerprint() and loaded.encode_batch(HARD) == tokenizer.encode_batch(HARD)
    assert (loaded.bos_id, loaded.eos_id, loaded.pad_id) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_what_was_saved_and_gives_the_same_ids(made: Path, name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = ours(made / f"{name}.model")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.eos_token_id == tokenizer.eos_id and theirs.bos_token_id == tokenizer.bos_id
    for text in HARD:
        assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == tokenizer.encode(text), repr(text)


def test_sizes_are_read_without_the_tokenizers_library(made: Path, ranked: Path) -> None:
    code = (
        "import sys; from llmkit.plugins.tokenizers.components import PretrainedParams as P\n"
        f"print(P(path={str(made / 'bpe.model')!r}).vocab_size, P(path={str(ranked)!r}).vocab_size,"
        " {'tokenizers', 'numpy', 'torch', 'sentencepiece', 'google', 'tiktoken'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert done == f"{processor(made / 'bpe.model').vocab_size()} 501 set()\n"


def test_what_cannot_be_said_with_the_same_ids_is_refused(tmp_path: Path) -> None:
    for name, options, words in (
        ("word", {"model_type": "word", "vocab_size": 20}, "neither a unigram nor a bpe model"),
        ("suffix", {"model_type": "unigram", "vocab_size": 300, "treat_whitespace_as_suffix": True}, "white space behind words"),
        ("own", {"model_type": "bpe", "vocab_size": 300, "user_defined_symbols": ["<sep>"]}, "pieces of the user's own"),
    ):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_prefix=str(tmp_path / name), hard_vocab_limit=False, minloglevel=2, **options
        )
        with pytest.raises(UserError, match=rf"{words}.*tokenizer\.json"):
            Pretrained.train(PretrainedParams(path=str(tmp_path / f"{name}.model")), ())


@pytest.mark.parametrize("damage", [b"", b"\n", b"\x0a\xff\xff", b"not a model at all", b"\x0a\x02\x08\x01"])
def test_a_damaged_model_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "damaged.model"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"damaged\.model' is no SentencePiece model"):
        _ = PretrainedParams(path=str(path)).vocab_size


def test_two_files_in_a_directory_ask_for_a_name(tmp_path: Path) -> None:
    for name in ("a.model", "b.tiktoken"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"holds a\.model, b\.tiktoken; name the one"):
        _ = PretrainedParams(path=str(tmp_path)).vocab_size
