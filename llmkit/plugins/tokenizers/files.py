"""Tokenizer files read as data: no heavy library is needed to know how many ids there are, or which are special."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError

VOCABULARIES = ("vocab.json", "encoder.json")
MERGES = ("merges.txt", "vocab.bpe")


@dataclass(frozen=True)
class Files:
    """Where a tokenizer lies: one `tokenizer.json`, or a vocabulary and its merges; `directory` holds its configuration."""

    directory: Path
    whole: Path | None = None
    vocabulary: Path | None = None
    merges: Path | None = None


def find(path: str | Path) -> Files:
    """The files behind a path; `UserError` naming what is missing."""
    place = Path(path).expanduser()
    if place.is_file():
        return _beside(place)
    if not place.is_dir():
        raise UserError(f"tokenizer path {str(path)!r} does not exist; give a tokenizer.json or a directory that holds one")
    if (place / "tokenizer.json").is_file():
        return Files(place, whole=place / "tokenizer.json")
    vocabulary = _first(place, VOCABULARIES)
    if vocabulary is None:
        raise UserError(f"directory {str(path)!r} holds neither tokenizer.json nor {' nor '.join(VOCABULARIES)}")
    return _pair(vocabulary)


def _beside(file: Path) -> Files:
    if file.name in VOCABULARIES or file.name in MERGES:
        vocabulary = file if file.name in VOCABULARIES else _first(file.parent, VOCABULARIES)
        if vocabulary is None:
            raise UserError(f"beside {str(file)!r} there is no vocabulary ({' or '.join(VOCABULARIES)})")
        return _pair(vocabulary)
    return Files(file.parent, whole=file)


def _pair(vocabulary: Path) -> Files:
    merges = _first(vocabulary.parent, MERGES)
    if merges is None:
        raise UserError(f"beside {str(vocabulary)!r} there are no merges ({' or '.join(MERGES)})")
    return Files(vocabulary.parent, vocabulary=vocabulary, merges=merges)


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


def vocab_size(path: str | Path) -> int:
    """One more than the highest id, special tokens included."""
    files = find(path)
    file = files.whole or files.vocabulary
    assert file is not None
    status = file.stat()
    return _vocab_size(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _vocab_size(file: Path, _changed: int, _bytes: int) -> int:
    document = read_json(file)
    if file.name in VOCABULARIES:
        return 1 + max(map(int, document.values()))
    try:
        vocabulary = document["model"]["vocab"]
        known = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1)
        return 1 + max([int(known), *(int(token["id"]) for token in document.get("added_tokens") or ())])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{str(file)!r} is no tokenizer.json: it has no model with a vocabulary") from error
