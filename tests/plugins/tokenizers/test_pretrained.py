"""The tokenizer `pretrained`, on files that other people made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.components import PretrainedParams
from llmkit.plugins.tokenizers.pretrained import Pretrained

DATA = Path(__file__).parents[3] / "../shared/data"
GPT2 = DATA / "gpt2-tokenizer"
STORIES = DATA / "stories260K/hf"
needs_gpt2 = pytest.mark.skipif(not GPT2.exists(), reason="GPT-2's vocabulary is not on this machine")
needs_stories = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K files are not on this machine")


@needs_gpt2
def test_gpt2_gives_the_published_ids_of_47_hard_strings() -> None:
    fixtures = DATA / "tokenizer-fixtures"
    texts = (fixtures / "ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    golden = [[int(index) for index in line.split()] for line in (fixtures / "ggml-vocab-gpt-2.gguf.out").read_text().split("\n")]
    tokenizer = Pretrained.train(PretrainedParams(path=str(GPT2)), ())
    assert len(golden) == len(texts) == 47
    assert tokenizer.encode_batch(texts) == golden
    assert [tokenizer.decode(ids) for ids in golden] == texts


@needs_gpt2
@pytest.mark.parametrize("path", [GPT2, GPT2 / "encoder.json", GPT2 / "vocab.bpe"], ids=lambda path: path.name)
def test_gpt2_knows_its_size_and_its_end_of_text(path: Path) -> None:
    params = PretrainedParams(path=str(path))
    tokenizer = Pretrained.train(params, ())
    assert params.vocab_size == tokenizer.vocab_size == 50257
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256}
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.pad_id == 50256
    assert tokenizer.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert tokenizer.encode("<|endoftext|>", specials=True) == [50256]


@needs_gpt2
def test_the_size_is_read_without_the_tokenizers_library() -> None:
    code = (
        "import sys; from llmkit.plugins.tokenizers.components import PretrainedParams\n"
        f"print(PretrainedParams(path={str(GPT2)!r}).vocab_size, {{'tokenizers', 'numpy', 'torch'}} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "50257 set()\n"


@needs_gpt2
def test_the_pair_is_saved_as_one_file_that_loads_the_same(tmp_path: Path) -> None:
    params = PretrainedParams(path=str(GPT2))
    tokenizer = Pretrained.train(params, ())
    tokenizer.save(tmp_path)
    loaded = Pretrained.load(PretrainedParams(path="long gone"), tmp_path)
    assert loaded.fingerprint() == tokenizer.fingerprint() and loaded.encode("Hello  world 🦙") == tokenizer.encode("Hello  world 🦙")


@needs_stories
def test_a_sentencepiece_model_keeps_its_own_begin_and_end(tmp_path: Path) -> None:
    params = PretrainedParams(path=str(STORIES))
    tokenizer = Pretrained.train(params, ())
    assert params.vocab_size == tokenizer.vocab_size == 512
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (1, 2, {2})
    ids = tokenizer.encode("Once upon a time")
    assert tokenizer.decode(ids) == "Once upon a time" and {0, 1, 2}.isdisjoint(ids)
    assert {1, 2}.isdisjoint(tokenizer.encode("<s> a </s>"))
    assert tokenizer.encode("</s>", specials=True)[-1:] == [2]


def saved(backend: Tokenizer, directory: Path, **config: object) -> Path:
    backend.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def unigram(directory: Path) -> Path:
    """A model whose vocabulary holds its special tokens, so that its lattice can find them in text."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((character, -3.0) for character in "<>/s ab")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.add_special_tokens([AddedToken("<unk>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False)])
    return saved(backend, directory, eos_token={"content": "</s>"})


def test_a_model_that_finds_special_tokens_in_text_is_kept_from_it(tmp_path: Path) -> None:
    path = unigram(tmp_path)
    raw = Tokenizer.from_file(str(path / "tokenizer.json"))
    raw.encode_special_tokens = True
    assert 1 in raw.encode("a</s>b").ids, "the library alone would make it"
    tokenizer = Pretrained.train(PretrainedParams(path=str(path)), ())
    text = "a</s>b</s></s> a"
    ids, spans = tokenizer.encode_offsets(text)
    assert 1 not in ids and tokenizer.encode(text) == ids
    assert "".join(text[start:end] for start, end in spans) == text
    assert tokenizer.encode(text, specials=True).count(1) == 3


def test_a_words_model_never_makes_its_special_token(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 1, "hello": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken("[END]", special=True)])
    tokenizer = Pretrained.train(PretrainedParams(path=str(saved(backend, tmp_path, eos_token="[END]"))), ())
    assert 1 not in tokenizer.encode("hello [END] hello")
    assert tokenizer.encode("hello [END]", specials=True) == [2, 1]


def test_truncation_and_padding_of_the_file_are_not_obeyed(tmp_path: Path) -> None:
    path = unigram(tmp_path)
    backend = Tokenizer.from_file(str(path / "tokenizer.json"))
    backend.enable_truncation(3)
    backend.enable_padding(length=8)
    saved(backend, tmp_path, eos_token="</s>")
    tokenizer = Pretrained.train(PretrainedParams(path=str(path)), ())
    assert len(tokenizer.encode("aabb")) == 4 and len(tokenizer.encode("a")) == 1


def test_a_role_is_read_by_number_where_only_the_model_names_it(tmp_path: Path) -> None:
    path = unigram(tmp_path)
    (path / "tokenizer_config.json").unlink()
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1], "pad_token_id": 0}))
    tokenizer = Pretrained.train(PretrainedParams(path=str(path)), ())
    assert tokenizer.eos_id == 1 and tokenizer.pad_id == 0


def test_a_role_that_the_spec_gives_wins_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    path = unigram(tmp_path)
    assert Pretrained.train(PretrainedParams(path=str(path), bos="<unk>"), ()).bos_id == 0
    wrong = Pretrained.train(PretrainedParams(path=str(path), eos="<end>"), ())
    with pytest.raises(UserError, match=r"no eos token '<end>'.*</s>"):
        _ = wrong.eos_id


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        _ = PretrainedParams(path=str(tmp_path / "nowhere")).vocab_size
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor"):
        _ = PretrainedParams(path=str(tmp_path)).vocab_size
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match="no merges"):
        _ = PretrainedParams(path=str(tmp_path)).vocab_size
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(UserError, match=r"is no tokenizer\.json"):
        _ = PretrainedParams(path=str(tmp_path)).vocab_size


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("[]", "", "no vocabulary"),
        ("{}", "", "no vocabulary"),
        ('{"a": "x"}', "", "no vocabulary"),
        ('{"a": 0, "b": 1}', "a z\n", "merges 'z', which"),
        ('{"a": 0, "b": 1}', "a b\n", "merges 'ab', which"),
    ],
)
def test_a_pair_that_is_damaged_is_told(vocabulary: str, merges: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(UserError, match=message):
        Pretrained.train(PretrainedParams(path=str(tmp_path)), ())
