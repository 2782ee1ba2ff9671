"""Texts that tokenizers are compared on, or trained on, from files as they are: groups with a name, in bounded memory."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from llmkit.core.errors import UserError
from llmkit.core.sample import sampled

BLOCK = 1 << 18
"""Bytes that are read of a file at once: a longer file is cut there, behind a line end."""


class Text(NamedTuple):
    """Documents that are looked at together: a language, a file, a source of the spec."""

    name: str
    documents: list[str]


class Place(NamedTuple):
    """Files of one name. Where they were not named one by one, what is no UTF-8 text is passed over."""

    name: str
    files: tuple[Path, ...]
    named: bool


def places(arguments: Sequence[str]) -> list[Place]:
    """What `[NAME=]PATH` names: a file, a directory with all that lies in it, or a pattern. `UserError` where there is nothing."""
    return [_place(argument) for argument in arguments]


def documents_of(place: Place) -> Iterator[str]:
    """Every file as a document, a long one in blocks; `UserError` naming the file that cannot be read."""
    for path in place.files:
        try:
            yield from _blocks(path)
        except UnicodeDecodeError as error:
            if place.named:
                raise UserError(f"--text {str(path)!r} is no UTF-8 text ({error.reason}); convert it first") from None
        except OSError as error:
            raise UserError(f"cannot read --text {str(path)!r}: {error.strerror}") from error


def gathered(named: Iterable[tuple[str, Iterable[str]]], most: int) -> list[Text]:
    """Texts of at most `most` bytes each, spread evenly over what there is; documents under one name are one text.

    `UserError` where a name has no text.
    """
    streams: dict[str, list[Iterable[str]]] = {}
    for name, documents in named:
        streams.setdefault(name, []).append(documents)
    texts = [Text(name, list(sampled(_all(streams[name]), most))) for name in streams]
    empty = next((text.name for text in texts if not any(document.strip() for document in text.documents)), None)
    if empty is not None:
        raise UserError(f"there is no text in {empty!r}; leave it out")
    return texts


def _all(streams: Iterable[Iterable[str]]) -> Iterator[str]:
    for documents in streams:
        yield from documents


def _place(argument: str) -> Place:
    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        name, path = "", argument
    place = Path(path).expanduser()
    if place.is_file():
        return Place(name or place.name, (place,), named=True)
    if place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.is_file())
    else:
        found = sorted(file for file in map(Path, glob(str(place), recursive=True)) if file.is_file())
    if not found:
        what = "no file matches it" if has_magic(path) else "there is no file in it" if place.is_dir() else "it does not exist"
        raise UserError(f"--text {path!r}: {what}; give a UTF-8 file, a directory or a pattern, with NAME= before it for a name")
    return Place(name or (place.name if place.is_dir() else path), tuple(found), named=False)


def _blocks(path: Path) -> Iterator[str]:
    decoder = getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if len(block) == BLOCK:
                block += file.readline(BLOCK)
            # A line that is longer still is cut within a character: its bytes wait for the next block.
            if text := decoder.decode(block):
                yield text
    decoder.decode(b"", final=True)
