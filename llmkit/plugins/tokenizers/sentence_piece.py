"""SentencePiece's `.model` files read as data: as much of the protobuf as decides the ids.

The messages and their numbers: `sentencepiece_model.proto` of google/sentencepiece. A field that is not asked for is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, TypeAlias

from llmkit.core.errors import UserError

Value: TypeAlias = int | bytes
Fields: TypeAlias = dict[int, Value]

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5


class Sort(IntEnum):
    """What a piece is for."""

    normal, unknown, control, user_defined, unused, byte = range(1, 7)


class Piece(NamedTuple):
    """An entry of the vocabulary; its id is its place in the list."""

    text: str
    score: float
    sort: Sort


@dataclass(frozen=True)
class SentencePieceModel:
    """What the file says.

    algorithm  1 unigram, 2 bpe, 3 word, 4 char
    charsmap   the compiled normaliser, empty for none
    roles      role -> id of `unk`, `bos`, `eos` and `pad`, those that it has
    """

    pieces: list[Piece]
    algorithm: int
    byte_fallback: bool
    suffix_space: bool
    charsmap: bytes
    dummy_prefix: bool
    trims_space: bool
    escapes_space: bool
    roles: dict[str, int]


def read_sentence_piece(path: Path) -> SentencePieceModel:
    """The model in a file; `UserError` naming it where it is missing or damaged."""
    try:
        return _model(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, IndexError, struct.error, AttributeError, TypeError) as error:
        raise UserError(f"{str(path)!r} is no SentencePiece model: {error}") from error


def _model(data: bytes) -> SentencePieceModel:
    entries = list(_fields(data))
    pieces = [_piece(dict(_fields(_bytes(value)))) for number, value in entries if number == 1]
    if not pieces:
        raise ValueError("it has no pieces")
    whole = dict(entries)
    trainer = dict(_fields(_bytes(whole.get(2, b""))))
    normalizer = dict(_fields(_bytes(whole.get(3, b""))))
    ids = {role: _signed(trainer.get(number, default)) for role, number, default in _ROLES}
    return SentencePieceModel(
        pieces=pieces,
        algorithm=int(trainer.get(3, 1)),
        byte_fallback=bool(trainer.get(35, 0)),
        suffix_space=bool(trainer.get(24, 0)),
        charsmap=_bytes(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        trims_space=bool(normalizer.get(4, 1)),
        escapes_space=bool(normalizer.get(5, 1)),
        roles={role: index for role, index in ids.items() if 0 <= index < len(pieces)},
    )


_ROLES = (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2), ("pad", 43, -1))


def _piece(fields: Fields) -> Piece:
    (score,) = struct.unpack("<f", _bytes(fields.get(2, bytes(4))))
    return Piece(_bytes(fields.get(1, b"")).decode(), score, Sort(int(fields.get(3, 1))))


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of every field of a message: an integer, or bytes that hold a string, a message or four or eight bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        size, place = _varint(data, place) if wire == LENGTH else ({EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(wire, -1), place)
        if size < 0 or place + size > len(data):
            raise ValueError(f"the field at byte {place} is cut off or of no known type")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _signed(value: Value) -> int:
    number = int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"expected text or a message, got the number {value}")
    return value
