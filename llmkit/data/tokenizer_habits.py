"""What a tokenizer does with digits, white space and hard strings: read off its ids, whatever it is made of."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmkit.core.interfaces.tokenizer import Tokenizer

NUMBER = "1234567"
LENGTHS, NUMBERS = range(2, 10), 30
Direction = Literal["single", "left", "right", "whole", "learned"]
Space = Literal["before the word", "behind the word", "apart"]

INDENTS = {"2 spaces": "  ", "4 spaces": " " * 4, "8 spaces": " " * 8, "16 spaces": " " * 16, "1 tab": "\t", "2 tabs": "\t\t"}

HARD = (
    " ",
    "  two  spaces  and one at the end ",
    "\r\n\t\n\n\x0b\x0c",
    "\0",
    "don't stop, it's 12345678 o'clock",
    "naïve café Bügeleisen",
    "e\u0301 and \u00e9 are not the same, nor are ﬁ and fi, nor Ⅷ and VIII",
    "你好世界 здравствуй مرحبا ไทย हिन्दी",
    "🦙🦙 👨\u200d👩\u200d👧\u200d👦 \U0001f1e9\U0001f1ea",
    "\u200b\ufeff\u00a0\u2028",
    "<|endoftext|> <s> </s> [UNK] ▁ ## ‿",
    "def f(x):\n    return x  # comment\n",
    "a" * 300,
)
"""Text that has broken tokenizers before."""


@dataclass(frozen=True)
class Digits:
    """How runs of digits are cut.

    pieces     of 1234567
    direction  single: a digit a token; left, right: groups of `group` counted from there, whatever the number; whole: one token up to
               9 digits; learned: it depends on the number, so that a digit's place is nothing that a model can rely on
    group      digits of the longest token
    """

    pieces: list[str]
    direction: Direction
    group: int


@dataclass(frozen=True)
class Whitespace:
    """What white space costs.

    space     where the space between two words goes
    indents   tokens that an indentation adds to a line
    newlines  tokens that three more line ends add
    """

    space: Space
    indents: dict[str, int]
    newlines: int


def digits_of(tokenizer: Tokenizer) -> Digits:
    """How it cuts numbers of two to nine digits, thirty of each length."""
    numbers = random.Random(0)
    cuts: dict[int, set[tuple[int, ...]]] = {}
    for length in LENGTHS:
        drawn = ("".join(numbers.choices("0123456789", k=length)) for _ in range(NUMBERS))
        cuts[length] = {tuple(map(len, _pieces(tokenizer, number))) for number in drawn}
    group = max(max(cut, default=0) for found in cuts.values() for cut in found)
    return Digits(_pieces(tokenizer, NUMBER), _direction(cuts, group), group)


def _direction(cuts: dict[int, set[tuple[int, ...]]], group: int) -> Direction:
    if any(len(found) > 1 for found in cuts.values()):
        return "learned"
    only = {length: next(iter(found)) for length, found in cuts.items()}
    if group == 1:
        return "single"
    if all(cut == (length,) for length, cut in only.items()):
        return "whole"
    lefts = {length: (group,) * (length // group) + ((length % group,) if length % group else ()) for length in only}
    if only == lefts:
        return "left"
    return "right" if only == {length: cut[::-1] for length, cut in lefts.items()} else "learned"


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [text[start:end] for start, end in tokenizer.encode_offsets(text)[1] if end > start]


def whitespace_of(tokenizer: Tokenizer) -> Whitespace:
    """What it does with a space, indentation and empty lines."""
    line = len(tokenizer.encode("if x:\nreturn y"))
    indents = {name: len(tokenizer.encode(f"if x:\n{indent}return y")) - line for name, indent in INDENTS.items()}
    return Whitespace(_space(tokenizer), indents, len(tokenizer.encode("one\n\n\n\ntwo")) - len(tokenizer.encode("one\ntwo")))


def _space(tokenizer: Tokenizer) -> Space:
    text = "in the house"
    spans = tokenizer.encode_offsets(text)[1]
    if any(start <= 2 and end > 3 for start, end in spans):
        return "before the word"
    return "behind the word" if any(start < 2 and end > 2 for start, end in spans) else "apart"


def changed(tokenizer: Tokenizer, texts: tuple[str, ...] = HARD) -> Iterator[str]:
    """The texts that do not come back as they were."""
    for text in texts:
        if tokenizer.decode(tokenizer.encode(text)) != text:
            yield text
