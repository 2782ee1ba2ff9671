"""The bytes of UTF-8 as tokens: nothing to learn, nothing unknown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from llmkit.core.chat import spelled
from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.plugins.tokenizers.components import BYTES, BytesParams
from llmkit.plugins.tokenizers.files import read_json


class Utf8(Tokenizer):
    """Id b is byte b; the special tokens follow from 256. Half a UTF-16 pair, which has no UTF-8, is read as U+FFFD."""

    def __init__(self, params: BytesParams) -> None:
        self.params = params

    @classmethod
    def train(cls, params: BytesParams, texts: Iterable[str]) -> Self:
        return cls(params)

    @classmethod
    def load(cls, params: BytesParams, directory: Path) -> Self:
        path = directory / "tokenizer.json"
        made = cls(params)
        saved = {token["content"]: token["id"] for token in read_json(path).get("added_tokens", ())}
        if saved != made.special_tokens:
            raise UserError(f"{str(path)!r} has the special tokens {list(saved)}, the spec has {list(made.special_tokens)}")
        return made

    @property
    def vocab_size(self) -> int:
        return self.params.vocab_size

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        return {token: BYTES + index for index, token in enumerate(self.params.all_specials)}

    @property
    def chat_template(self) -> str | None:
        return self.params.jinja

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        return spelled(self.special_tokens)

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        if not specials:
            return list(_utf8(text))
        ids: list[int] = []
        for piece in self._spelled.split(text):
            ids += [self.special_tokens[piece]] if piece in self.special_tokens else _utf8(piece)
        return ids

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        spans = [(index, index + 1) for index, character in enumerate(text) for _ in _utf8(character)]
        return self.encode(text), spans

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        specials = [place for place, index in enumerate(ids) if index >= BYTES]
        names = {index: token for token, index in self.special_tokens.items()}
        texts: list[str] = []
        if skip_specials:
            return bytes(index for index in ids if index < BYTES).decode("utf-8", "replace")
        for start, end in pairwise([-1, *specials, len(ids)]):
            texts.append(bytes(ids[start + 1 : end]).decode("utf-8", "replace"))
            texts.append(names.get(ids[end], "") if end < len(ids) else "")
        return "".join(texts)

    def save(self, directory: Path) -> None:
        """A byte-level byte-pair tokenizer without merges is the same thing, in a form that transformers loads."""
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self.params.config}
        (directory / "tokenizer.json").write_text(json.dumps(self._document(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _document(self) -> dict[str, Any]:
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        vocabulary = {character: byte for byte, character in enumerate(spelling())} | self.special_tokens
        return {
            "version": "1.0",
            "added_tokens": [{"id": index, "content": token, **flags} for token, index in self.special_tokens.items()],
            "pre_tokenizer": level,
            "decoder": level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(["utf8", self.special_tokens]).encode()).hexdigest()[:16]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text).encode()


def spelling() -> list[str]:
    """GPT-2's spelling of the 256 bytes: printable Latin-1 stands for itself, the others for U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(BYTES)]
