"""Hexadecimal digits: each byte of UTF-8 becomes two ids of sixteen, and the end of a text is the seventeenth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from llmkit import Tokenizer
from llmkit.testing.scaffold.tokenizer import IdeaParams

END = 16


class Idea(Tokenizer):
    """It learns nothing, so that `train` only makes one."""

    def __init__(self, end: str) -> None:
        self.end = end

    @classmethod
    def train(cls, params: IdeaParams, texts: Iterable[str]) -> Self:
        """A tokenizer with these parameters."""
        return cls(params.end)

    @classmethod
    def load(cls, params: IdeaParams, directory: Path) -> Self:
        """What `save` wrote."""
        return cls(json.loads((directory / "digits.json").read_text(encoding="utf-8"))["end"])

    def save(self, directory: Path) -> None:
        """All that `load` needs."""
        (directory / "digits.json").write_text(json.dumps({"end": self.end}), encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return END + 1

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token -> id."""
        return {self.end: END}

    @property
    def eos_id(self) -> int:
        """The end of text."""
        return END

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Text to ids; the end of text is itself only where special tokens are wanted."""
        pieces = re.split(f"({re.escape(self.end)})", text) if specials else [text]
        return [index for piece in pieces for index in ([END] if specials and piece == self.end else _digits(piece))]

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of plain text, and the span of characters that each covers."""
        spans = [(place, place + 1) for place, character in enumerate(text) for _ in _digits(character)]
        return _digits(text), spans

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Ids to text; bytes that are no UTF-8 become U+FFFD."""
        end = [] if skip_specials else _digits(self.end)
        digits = "".join(f"{digit:x}" for index in ids for digit in (end if index == END else [index]))
        return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8", "replace")

    def fingerprint(self) -> str:
        """Of everything that decides the ids."""
        return f"1:{self.end}"


def _digits(text: str) -> list[int]:
    # A lone surrogate has no bytes in UTF-8: it becomes a question mark.
    return [int(digit, 16) for digit in text.encode("utf-8", "replace").hex()]
