"""Tokenizer files read as data: no heavy library is needed to know how many ids there are, or which are special."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.sentence_piece import read_sentence_piece

VOCABULARIES = ("vocab.json", "encoder.json")
MERGES = ("merges.txt", "vocab.bpe")
RANK = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s")
"""A line of a tiktoken file: a token's bytes in base64, and its rank."""


class Form(Enum):
    """How a tokenizer lies on the disk."""

    whole = "a tokenizer.json"
    pair = "a vocabulary and its merges"
    tiktoken = "tiktoken's ranks"
    sentence_piece = "a SentencePiece model"


@dataclass(frozen=True)
class Files:
    """Where a tokenizer lies: one file, or a vocabulary and its merges; the directory of `file` holds its configuration."""

    form: Form
    file: Path
    merges: Path | None = None

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return self.file.parent


def find(path: str | Path) -> Files:
    """The files behind a path; `UserError` naming what is missing."""
    place = Path(path).expanduser()
    if place.is_file():
        return _beside(place)
    if not place.is_dir():
        raise UserError(f"tokenizer path {str(path)!r} does not exist; give a tokenizer.json or a directory that holds one")
    if (place / "tokenizer.json").is_file():
        return Files(Form.whole, place / "tokenizer.json")
    vocabulary = _first(place, VOCABULARIES)
    if vocabulary is not None:
        return _pair(vocabulary)
    others = sorted(file for ending in ("*.model", "*.tiktoken") for file in place.glob(ending))
    if len(others) == 1:
        return _beside(others[0])
    if others:
        raise UserError(f"directory {str(path)!r} holds {', '.join(file.name for file in others)}; name the one that is meant")
    raise UserError(f"directory {str(path)!r} holds neither tokenizer.json nor {' nor '.join(VOCABULARIES)} nor *.model nor *.tiktoken")


def _beside(file: Path) -> Files:
    if file.name in VOCABULARIES or file.name in MERGES:
        vocabulary = file if file.name in VOCABULARIES else _first(file.parent, VOCABULARIES)
        if vocabulary is None:
            raise UserError(f"beside {str(file)!r} there is no vocabulary ({' or '.join(VOCABULARIES)})")
        return _pair(vocabulary)
    if file.suffix not in (".model", ".tiktoken"):
        return Files(Form.whole, file)
    # Llama 3's tokenizer.model holds tiktoken's lines, so that the name alone does not tell.
    return Files(Form.tiktoken if RANK.match(_beginning(file)) else Form.sentence_piece, file)


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.readline(4096)
    except OSError as error:
        raise UserError(f"cannot read {str(file)!r}: {error.strerror}") from error


def _pair(vocabulary: Path) -> Files:
    merges = _first(vocabulary.parent, MERGES)
    if merges is None:
        raise UserError(f"beside {str(vocabulary)!r} there are no merges ({' or '.join(MERGES)})")
    return Files(Form.pair, vocabulary, merges)


def _first(directory: Path, names: tuple[str, ...]) -> Path | None:
    return next((directory / name for name in names if (directory / name).is_file()), None)


def read_json(path: Path) -> Any:
    """A JSON file; `UserError` naming it where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is no JSON: {error}") from error


def read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> id of a vocabulary file; `UserError` where it is none."""
    document = read_json(path)
    if not isinstance(document, dict) or not document or not all(type(index) is int and index >= 0 for index in document.values()):
        raise UserError(f"{str(path)!r} is no vocabulary: expected a mapping of tokens to ids; give GPT-2's vocab.json or encoder.json")
    return document


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of a merges file, in the order of their rank."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read merges {str(path)!r}: {error}") from error
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    bad = next((pair for pair in pairs if len(pair) != 2), None)
    if bad is not None:
        raise UserError(f"merges {str(path)!r}: expected two tokens on a line, got {' '.join(bad)!r}")
    return [(pair[0], pair[1]) for pair in pairs]


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token -> rank of a tiktoken file; the rank is the id. `UserError` naming the line that is none."""
    ranks: dict[bytes, int] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise UserError(f"{str(path)!r}, line {number}: expected a token in base64 and its rank ({error})") from error
    if len(set(ranks.values())) < len(ranks):
        raise UserError(f"{str(path)!r} gives two tokens one rank")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise UserError(f"{str(path)!r} has no token for byte {missing[0]}, so that not every text can be encoded")
    return ranks


def vocab_size(path: str | Path, specials: Mapping[str, int] | None = None) -> int:
    """One more than the highest id, special tokens included.

    specials  those of a tiktoken file, which names none; one id after its ranks unless given
    """
    files = find(path)
    status = files.file.stat()
    size = _vocab_size(files, status.st_mtime_ns, status.st_size)
    if files.form is not Form.tiktoken:
        return size
    return max([size, *(index + 1 for index in specials.values())]) if specials else size + 1


@lru_cache(maxsize=32)
def _vocab_size(files: Files, _changed: int, _bytes: int) -> int:
    if files.form is Form.tiktoken:
        return 1 + max(read_ranks(files.file).values())
    if files.form is Form.sentence_piece:
        return len(read_sentence_piece(files.file).pieces)
    if files.form is Form.pair:
        return 1 + max(read_vocabulary(files.file).values())
    document = read_json(files.file)
    try:
        vocabulary = document["model"]["vocab"]
        known = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1)
        return 1 + max([int(known), *(int(token["id"]) for token in document.get("added_tokens") or ())])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{str(files.file)!r} is no tokenizer.json: it has no model with a vocabulary") from error
