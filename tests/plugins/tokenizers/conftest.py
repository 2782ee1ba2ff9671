"""The three tokenizers, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams, BytesParams, PretrainedParams
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.utf8 import Utf8

OWN = ["<|user|>", "<|user|>x", "[INST]"]
TEXTS = [
    "the quick brown fox, <|endoftext|> the lazy dog; don't <|user|> at 12345 o'clock\n\n    def f(x):\n        return x\n",
    "naïve café, Bügeleisen, 你好世界, здравствуй, 🦙🦙 and a family 👨‍👩‍👧‍👦",
] * 20


@pytest.fixture(scope="session", params=["bytes", "bpe", "pretrained"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "bytes":
        return Utf8.train(BytesParams(special_tokens=OWN), ())
    bpe = BytePair.train(BpeParams(vocab_size=400, special_tokens=OWN), TEXTS)
    if request.param == "bpe":
        return bpe
    directory: Path = tmp_path_factory.mktemp("pretrained")
    bpe.save(directory)
    return Pretrained.train(PretrainedParams(path=str(directory)), ())
