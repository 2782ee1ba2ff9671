"""The tokenizer `bytes`."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.components import BytesParams
from llmkit.plugins.tokenizers.utf8 import Utf8


def test_ids_are_the_bytes_of_utf8() -> None:
    assert Utf8(BytesParams()).encode("aé🦙") == [*"aé🦙".encode()]


def test_it_has_256_ids_and_the_special_tokens() -> None:
    params = BytesParams(special_tokens=["<|user|>"])
    assert params.vocab_size == Utf8(params).vocab_size == 259
    assert Utf8(params).special_tokens == {"<|endoftext|>": 256, "<|pad|>": 257, "<|user|>": 258}


def test_every_byte_sequence_decodes() -> None:
    assert Utf8(BytesParams()).decode(range(256)) == bytes(range(256)).decode("utf-8", "replace")


def test_a_saved_one_with_other_special_tokens_is_refused(tmp_path: Path) -> None:
    Utf8(BytesParams(special_tokens=["<|user|>"])).save(tmp_path)
    with pytest.raises(UserError, match="special tokens"):
        Utf8.load(BytesParams(), tmp_path)
