"""What a general-purpose compressor needs for the same text: a yardstick for bits per byte."""

from __future__ import annotations

import lzma
from typing import NamedTuple

from llmkit.core.spec import Spec
from llmkit.data.prepare import split_documents

SMALLEST_DICTIONARY = 1 << 26
LARGEST_DICTIONARY = 1536 << 20


class Yardsticks(NamedTuple):
    """Bits per byte of the validation text. alone: by itself; after_training: once the training text has been seen."""

    alone: float
    after_training: float


def compression_yardsticks(train_text: str, validation_text: str) -> Yardsticks:
    """`xz -9e` on the validation text, and what it adds to the training text: (|xz(train + val)| - |xz(train)|) 8 / |val|.

    The dictionary is made to hold both texts (up to xz's limit of 1.5 GiB), so that all of the training text can be referred to.
    """
    train, validation = train_text.encode(), validation_text.encode()
    bits = 8 / len(validation)
    together = _xz_size(train + validation, len(train) + len(validation))
    return Yardsticks(
        alone=bits * _xz_size(validation, len(validation)),
        after_training=bits * (together - _xz_size(train, len(train) + len(validation))),
    )


def yardsticks_of(spec: Spec) -> Yardsticks:
    """The yardsticks of a spec's own text, each side's documents joined by line ends."""
    sides: tuple[list[str], list[str]] = ([], [])
    for held_out, document in split_documents(spec):
        sides[held_out].append(document.text)
    return compression_yardsticks(*("\n".join(side) for side in sides))


def _xz_size(text: bytes, span: int) -> int:
    dictionary = min(max(SMALLEST_DICTIONARY, span), LARGEST_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return len(lzma.compress(text, format=lzma.FORMAT_XZ, filters=filters))
