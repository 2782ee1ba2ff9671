"""Every tokenizer, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.character import Character
from llmkit.plugins.tokenizers.components import BpeParams, BytesParams, CharParams, PretrainedParams, UnigramParams, WordPieceParams
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.unigram import Unigram
from llmkit.plugins.tokenizers.utf8 import Utf8
from llmkit.plugins.tokenizers.word_piece import WordPiece

OWN = ["<|user|>", "<|user|>x", "[INST]"]
TEXTS = [
    "the quick brown fox, <|endoftext|> the lazy dog; don't <|user|> at 12345 o'clock\n\n    def f(x):\n        return x\n",
    "naïve café, Bügeleisen, 你好世界, здравствуй, 🦙🦙 and a family 👨‍👩‍👧‍👦",
] * 20


@pytest.fixture(scope="session", params=["bytes", "bpe", "char", "pretrained", "unigram", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "bytes":
        return Utf8.train(BytesParams(special_tokens=OWN), ())
    if request.param == "char":
        return Character.train(CharParams(vocab_size=300, special_tokens=OWN), TEXTS)
    if request.param == "unigram":
        return Unigram.train(UnigramParams(vocab_size=400, special_tokens=OWN), TEXTS)
    if request.param == "wordpiece":
        return WordPiece.train(WordPieceParams(vocab_size=650, special_tokens=OWN), TEXTS)
    bpe = BytePair.train(BpeParams(vocab_size=400, special_tokens=OWN), TEXTS)
    if request.param == "bpe":
        return bpe
    directory: Path = tmp_path_factory.mktemp("pretrained")
    bpe.save(directory)
    return Pretrained.train(PretrainedParams(path=str(directory)), ())
