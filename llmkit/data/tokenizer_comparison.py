"""Tokenizers side by side on the same texts: how much text a token is, what words cost, which ids are used, how fast it goes."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.data.tokenizer_habits import HARD, Digits, Whitespace, changed, digits_of, whitespace_of
from llmkit.data.tokenizer_texts import Text
from llmkit.data.workers import usable_cores

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ALONE, _JOINED = (rf"[\p{{L}}\p{{M}}\p{{N}}&&[{scripts}]]" for scripts in (_UNSPACED, f"^{_UNSPACED}"))
WORD = rf"{_ALONE}\p{{M}}*|{_JOINED}+(?:['\x{{2019}}]{_JOINED}+)*"
"""A word: letters, marks and digits in a row, apostrophes inside. Where words have no spaces between them, every character is one."""

RENYI_ORDER = 2.5
"""Of the Rényi entropy whose efficiency went best with translation quality (Zouhar et al., arXiv 2306.16842)."""

SPEED_BYTES = 1 << 20
ROUNDS = 5

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """A text: documents, bytes of UTF-8, characters (code points), words."""

    name: str
    documents: int
    bytes: int
    characters: int
    words: int


@dataclass(frozen=True)
class OnText:
    """A tokenizer on one text.

    fertility    tokens a word: those that have a character of it; 1 is the least. None where there is no word
    whole_words  part of the words that are a token by themselves (a space before it may be in it)
    """

    name: str
    tokens: int
    bytes_per_token: float
    characters_per_token: float
    fertility: float | None
    whole_words: float | None


@dataclass(frozen=True)
class Use:
    """Which ids the texts made.

    seen              different ids
    dead              ids that none of them made, special tokens aside
    entropy_bits      of an id, by its frequency
    renyi_efficiency  Rényi entropy of order 2.5 over log |V|: 1 where all ids are as frequent, near 0 where few are nearly everything
    """

    seen: int
    dead: int
    entropy_bits: float
    renyi_efficiency: float


@dataclass(frozen=True)
class Speed:
    """MB of text a second (1 MB is 10^6 bytes): the median round, the slowest, the fastest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class RoundTrip:
    """Whether text comes back as it was: documents of the texts, and hard strings, those listed that do not."""

    documents: int
    exact: int
    hard_strings: int
    changed: list[str]


@dataclass(frozen=True)
class Compared:
    """One tokenizer. `frequencies` are those of the ids that occur, falling: the curve that Zipf's law is about."""

    name: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    fertility: float | None
    texts: list[OnText]
    use: Use
    digits: Digits
    whitespace: Whitespace
    round_trip: RoundTrip
    special_tokens: list[str]
    roles: dict[str, str]
    chat_template: bool
    encode: Speed
    decode: Speed
    frequencies: NDArray[np.int64]

    def row(self) -> dict[str, Any]:
        """As `tokenizer compare --json` prints it."""
        return {key: value for key, value in asdict(self).items() if key != "frequencies"}


@dataclass(frozen=True)
class Comparison:
    """All of them. threads: how many the encoding had to itself."""

    texts: list[Size]
    tokenizers: list[Compared]
    threads: int

    def document(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "texts": [asdict(text) for text in self.texts],
            "tokenizers": [tokenizer.row() for tokenizer in self.tokenizers],
            "threads": self.threads,
        }


class _Counted(NamedTuple):
    """A tokenizer on one text, before anything is divided. whole: words that are a token; pieces: tokens in words, those in two twice."""

    ids: NDArray[np.int64]
    exact: int
    pieces: int
    whole: int


def compare(
    tokenizers: Mapping[str, Tokenizer], texts: Sequence[Text], *, rounds: int = ROUNDS, progress: Progress | None = None
) -> Comparison:
    """Every tokenizer on every text.

    rounds    of the measured speed: in each, every tokenizer encodes and decodes the same text, one after another
    progress  called with what is being done

    `UserError` where a tokenizer makes no token of a text.
    """
    tell = progress or _silent
    words = [[words_of(document) for document in text.documents] for text in texts]
    sizes = [_size(text, found) for text, found in zip(texts, words, strict=True)]
    counted = {}
    for name, tokenizer in tokenizers.items():
        tell(f"encoding with {name}")
        counted[name] = [_count(tokenizer, text, found) for text, found in zip(texts, words, strict=True)]
        silent = next((text.name for text, one in zip(texts, counted[name], strict=True) if not len(one.ids)), None)
        if silent is not None:
            raise UserError(f"{name} makes no token of the text {silent!r}; leave either out")
    tell("measuring speed")
    speeds = _speeds(tokenizers, _share(texts), rounds)
    compared = [_compared(name, tokenizers[name], sizes, counted[name], *speeds[name]) for name in tokenizers]
    return Comparison(sizes, compared, threads())


def words_of(document: str) -> NDArray[np.int64]:
    """(n, 2): where each word begins and ends, in characters."""
    spans = [span for _, span in Split(Regex(WORD), "removed", invert=True).pre_tokenize_str(document)]
    return np.asarray(spans, np.int64).reshape(-1, 2)


def use_of(counts: NDArray[np.int64], specials: int) -> Use:
    """counts: how often each id of the vocabulary occurred."""
    frequencies = counts[counts > 0] / counts.sum()
    renyi = np.log((frequencies**RENYI_ORDER).sum()) / (1 - RENYI_ORDER)
    return Use(
        seen=len(frequencies),
        dead=max(len(counts) - specials - len(frequencies), 0),
        entropy_bits=float(-(frequencies * np.log2(frequencies)).sum()) + 0.0,
        renyi_efficiency=float(renyi / np.log(len(counts))) + 0.0,
    )


def threads() -> int:
    """How many threads an encoding library takes by itself."""
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("0", "false", "off", "no", "n", "f"):
        return 1
    asked = os.environ.get("RAYON_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()


def _size(text: Text, words: Sequence[NDArray[np.int64]]) -> Size:
    return Size(text.name, len(text.documents), sum(map(_bytes, text.documents)), sum(map(len, text.documents)), sum(map(len, words)))


def _count(tokenizer: Tokenizer, text: Text, words: Sequence[NDArray[np.int64]]) -> _Counted:
    rows = []
    exact = pieces = whole = 0
    for document, found in zip(text.documents, words, strict=True):
        ids, spans = tokenizer.encode_offsets(document)
        rows.append(np.asarray(ids, np.int64))
        exact += tokenizer.decode(ids) == document
        in_words, alone = _in_words(np.asarray(spans, np.int64).reshape(-1, 2), found)
        pieces += in_words
        whole += alone
    return _Counted(np.concatenate([np.empty(0, np.int64), *rows]), exact, pieces, whole)


def _in_words(spans: NDArray[np.int64], words: NDArray[np.int64]) -> tuple[int, int]:
    """(tokens that have a character of a word, one that is in two counted twice; words that are in one token, which is in no other)."""
    spans = spans[spans[:, 1] > spans[:, 0]]
    if not len(spans) or not len(words):
        return 0, 0
    # Both are in order, and tokens that share a character (its bytes) have the same span.
    first = np.searchsorted(spans[:, 1], words[:, 0], side="right")
    last = np.searchsorted(spans[:, 0], words[:, 1], side="left")
    each = last - first
    alone = each == 1
    # How many words a token is in; one that goes on inside a word touches words at its ends only.
    touched = np.bincount(first[each > 0], minlength=len(spans)) + np.bincount(last[each > 1] - 1, minlength=len(spans))
    return int(each.sum()), int((touched[first[alone]] == 1).sum())


def _compared(
    name: str, tokenizer: Tokenizer, sizes: Sequence[Size], counted: Sequence[_Counted], encode: Speed, decode: Speed
) -> Compared:
    counts = np.bincount(np.concatenate([one.ids for one in counted]), minlength=tokenizer.vocab_size)
    tokens, words = int(counts.sum()), sum(size.words for size in sizes)
    return Compared(
        name=name,
        vocab_size=tokenizer.vocab_size,
        tokens=tokens,
        bytes_per_token=sum(size.bytes for size in sizes) / tokens,
        fertility=sum(one.pieces for one in counted) / words if words else None,
        texts=[_on_text(size, one) for size, one in zip(sizes, counted, strict=True)],
        use=use_of(counts, len(tokenizer.special_tokens)),
        digits=digits_of(tokenizer),
        whitespace=whitespace_of(tokenizer),
        round_trip=RoundTrip(sum(size.documents for size in sizes), sum(one.exact for one in counted), len(HARD), list(changed(tokenizer))),
        special_tokens=list(tokenizer.special_tokens),
        roles=tokenizer.roles,
        chat_template=tokenizer.chat_template is not None,
        encode=encode,
        decode=decode,
        frequencies=np.sort(counts[counts > 0])[::-1],
    )


def _on_text(size: Size, one: _Counted) -> OnText:
    tokens = len(one.ids)
    return OnText(
        name=size.name,
        tokens=tokens,
        bytes_per_token=size.bytes / tokens,
        characters_per_token=size.characters / tokens,
        fertility=one.pieces / size.words if size.words else None,
        whole_words=one.whole / size.words if size.words else None,
    )


def _share(texts: Sequence[Text]) -> list[str]:
    """The beginning of every text, as much of each as of the others, for the speed."""
    each = SPEED_BYTES // len(texts)
    found = []
    for text in texts:
        left = each
        for document in text.documents:
            if left <= 0:
                break
            found.append(document[:left])
            left -= _bytes(found[-1])
    return found


def _speeds(tokenizers: Mapping[str, Tokenizer], documents: list[str], rounds: int) -> dict[str, tuple[Speed, Speed]]:
    """Interleaved: what slows the machine down for a while slows all of them. A first round warms up and is not counted."""
    megabytes = sum(map(_bytes, documents)) / 1e6
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in tokenizers}
    for number in range(rounds + 1):
        for name, tokenizer in tokenizers.items():
            began = perf_counter()
            rows = tokenizer.encode_batch(documents)
            encoded = perf_counter()
            for row in rows:
                tokenizer.decode(row)
            if number:
                rates[name][0].append(megabytes / (encoded - began))
                rates[name][1].append(megabytes / (perf_counter() - encoded))
    return {name: (_spread(encode), _spread(decode)) for name, (encode, decode) in rates.items()}


def _spread(rates: Sequence[float]) -> Speed:
    return Speed(statistics.median(rates), min(rates), max(rates))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _silent(what: str) -> None:
    return
