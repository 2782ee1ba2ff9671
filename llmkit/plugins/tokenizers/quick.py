"""The same ids many times faster: `gigatoken`, where it is installed and proves itself on the vocabulary at hand.

It looks words up that it has seen, where the `tokenizers` library merges each anew, and cuts text by hand-written code for some well-known
patterns. It is a young package, so nothing rests on its word: it is asked only for byte-level byte-pair models without a normaliser, it
must give the library's own ids on text that is made to be hard for this vocabulary before it is used, and whoever uses it goes on
comparing. Ids and fingerprints are the same with and without it.
"""

from __future__ import annotations

import json
import random
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from llmkit.plugins.tokenizers.components import PATTERNS

Ids = NDArray[np.uint32]

RENEWED = 1 << 26
"""Characters after which it is made anew: it keeps every word that it has seen. Of words that are all different 64 MB take 0.6 GB."""

HARD = (
    "", " ", "  ", "\n", "\r\n", "\r", "\t", "\n\n \n  x", " \n", "a \r\n b\r\r\n", "x" * 300, " " * 300, "1" * 300, "\n" * 300, "'" * 9,
    "don't DON'T can'LL we'Re I'M he'D it'\u017f \u017f'S K'\u212ae '' 's 'S '\u0130", "1234567 1 12 123 1234 ١٢٣٤ ½ ⅷ 一二 ²³",
    "camelCase HTTPServer snake_case __init__ f(x[0])->{y}; //!?.../ \\ @#$%^&*", "naïve café e\u0301\u0302 a\u030a Å ﬁ ß İ \u0131 ǅ ª º",
    "你好\uff0c世界。 こんにちは ｱｲｳ 한국어 각 ไทย क्षि ਪੰਜਾਬੀ", "здравствуй мир, مرحبا بالعالم، שלום", "🦙🦙 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ☝🏽 ©️ \U000e0041",
    "\x00 \x01\x1b[0m \x7f \x85 \x1c\x1d \xa0 \xad \u180e \u2003 \u2028\u2029 \u200b\u200d \u3000 \ufeff \ufffd \uffff \U0010ffff",
    "<|endoftext|> <|pad|> <s></s> <unk> [INST] <|im_start|>user\n", "def f(x):\n    if x:\n\treturn x  # a comment\n\n\n    else",
)  # fmt: skip
"""Runs, contractions, digits, marks, scripts, signs, controls, and special tokens that are spelled."""


HIGHEST = 0x20000
"""The categories of characters below it are tried: above it are hardly any but Chinese."""


class Quick:
    """Encodes plain text with a byte-pair vocabulary."""

    def __init__(self, package: Any, description: str) -> None:
        """description  a tokenizer.json that has been found expressible"""
        self._package, self._description = package, description
        self._renew()

    def encode(self, text: str) -> Ids:
        """The ids of a text. `TypeError` where half a UTF-16 pair is in it."""
        self._left -= len(text)
        if self._left < 0:
            self._renew()
        ids: Ids = self._tokenizer.encode(text)
        return ids

    def _renew(self) -> None:
        self._tokenizer = self._package.Tokenizer.from_json(self._description)
        self._left = RENEWED


def quick(backend: tokenizers.Tokenizer) -> Quick | None:
    """The quick way to this tokenizer's ids; None where gigatoken is not installed, cannot express it, or gives others.

    It is tried once in a process for each tokenizer.
    """
    return _proved(backend.to_str())


@lru_cache(maxsize=4)
def _proved(description: str) -> Quick | None:
    stated = _expressible(json.loads(description))
    if stated is None:
        return None
    try:
        import gigatoken

        found = Quick(gigatoken, json.dumps(stated))
    except Exception:  # not there, or a pattern for which it has no code: it raises whatever Rust does
        return None
    backend = tokenizers.Tokenizer.from_str(description)
    backend.encode_special_tokens = True
    texts = [*HARD, *_by_category(), *_of_vocabulary(backend)]
    wrong = first_difference(found, backend, texts)
    if wrong is not None:
        warnings.warn(f"gigatoken gives other ids than tokenizers for {texts[wrong][:80]!r}; it is not used", stacklevel=4)
        return None
    return found


def first_difference(quick: Quick, backend: tokenizers.Tokenizer, texts: Sequence[str]) -> int | None:
    """Which of the texts is the first that has other ids than the library's; None where none has."""
    expected = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return next((index for index, text in enumerate(texts) if quick.encode(text).tolist() != expected[index].ids), None)


def _expressible(document: dict[str, Any]) -> dict[str, Any] | None:
    """A tokenizer.json restated as gigatoken knows it, for plain text, in which nothing is special; None where more is in it."""
    model, added = document["model"], document["added_tokens"]
    unusual = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
    if model["type"] != "BPE" or any(model.get(name) for name in unusual) or document["normalizer"] is not None:
        return None
    if not all(token["special"] for token in added):
        return None
    return {**document, "added_tokens": [], "post_processor": None, "pre_tokenizer": _restated(document["pre_tokenizer"])}


def _restated(cut: dict[str, Any] | None) -> dict[str, Any] | None:
    """GPT-2's pattern as the library's own byte level has it, and a run of one digit as a digit: so gigatoken knows them."""
    pieces = (cut or {}).get("pretokenizers", [])
    if cut is None or len(pieces) != 2 or "Regex" not in pieces[0].get("pattern", {}):
        return cut
    pattern = pieces[0]["pattern"]["Regex"]
    if pattern == PATTERNS["gpt2"]:
        return {**pieces[1], "use_regex": True}
    split = {**pieces[0], "pattern": {"Regex": pattern.replace(r"\p{N}{1,1}", r"\p{N}")}}
    return {**cut, "pretokenizers": [split, pieces[1]]}


def _by_category() -> Iterator[str]:
    """The first and the last character of every stretch of one category, between letters, digits, spaces and signs."""
    last = ""
    edges: list[str] = []
    for character in map(chr, (*range(1, 0xD800), *range(0xE001, HIGHEST))):
        category = unicodedata.category(character)
        if category != last:
            edges += [chr(ord(character) - 1), character]
        last = category
    for start in range(0, len(edges), 64):
        yield "".join(f"a{one}b {one}1{one}{one}.{one}\n" for one in edges[start : start + 64])


def _of_vocabulary(backend: tokenizers.Tokenizer) -> Iterator[str]:
    """Tokens one after another, at random: what this vocabulary has merges for."""
    draw = random.Random(0)
    for _ in range(200):
        yield backend.decode(draw.choices(range(backend.get_vocab_size()), k=50))
