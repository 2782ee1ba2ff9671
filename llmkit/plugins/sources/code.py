"""Trees of source files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Skipped
from llmkit.plugins.sources import licences
from llmkit.plugins.sources.blocks import Unreadable, utf8_blocks_of
from llmkit.plugins.sources.components import EXTENSIONS, CodeParams
from llmkit.plugins.sources.files import Files, Records, broken, text_of
from llmkit.plugins.sources.pieces import RAW, whole

FOLDERS = (
    "node_modules bower_components jspm_packages vendor vendors third_party third-party thirdparty 3rdparty extern externals "
    "site-packages dist-packages .venv venv .tox .nox .eggs dist Pods Carthage"
)
VENDORED = frozenset(FOLDERS.split())
"""Folders of others' code, most of them as GitHub's linguist knows them (vendor.yml)."""
NO_SOURCES = frozenset({".git", ".hg", ".svn", "__pycache__"})
GENERATED_NAME = re.compile(
    r"([._-]generated\.\w+|_pb2(_grpc)?\.pyi?|\.pb\.(go|cc|h)|\.g\.dart|\.designer\.cs|\.bundle\.js)$", re.IGNORECASE
)
GENERATED = re.compile(
    r"@generated\b|\bauto-?generated\b|\bdo not edit\b|"
    r"^\W*((this|the) (file|code) (is|was|has been) |code )?(automatically )?generated (by|from|with|using)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""As programs mark what they write, in its first lines."""
MARKED_LINES = 5
MINIFIED_NAME = re.compile(r"[.-]min\.\w+$", re.IGNORECASE)
MINIFIED = 200
"""Characters of a line, on average, above which nobody typed it."""
PROSE = frozenset({".md", ".rst", ".tex"})
"""Where a line is a paragraph, and a licence file may end so."""
HEADER = 4096


class Code(Files):
    """A source file a document: of a kind that is asked for, written by people, under a licence that is asked for.

    A document's id is the path, its licence an SPDX expression: what the file says of itself (`SPDX-License-Identifier`), else the licence
    files in the nearest folder at or above it that has one, up to the directory given, else `licence`. What is left out is counted by its
    reason, a folder of others' code as one. Links are not followed.
    """

    called = "code"
    pattern = "*"
    params: CodeParams

    def find(self) -> list[Path]:
        """Everything that is counted: the source files, and the folders that are not entered."""
        # By the folder's own name: of two directories that are given, one may lie in the other.
        found: dict[Path, Path] = {}
        for path in (path for given in self.params.paths for path in self._below(_directory(given))):
            found.setdefault(_own(path.parent) / path.name, path)
        if not found:
            kinds = " ".join(self.params.extensions)
            raise UserError(f"code source: no file in {', '.join(map(repr, self.params.paths))} ends in one of extensions ({kinds})")
        return list(found.values())

    def decisive(self) -> list[Path]:
        """The licence files too, by which others are taken or not."""
        folders = {folder for path in self.files for folder in self._up(_own(path.parent))}
        return [*self.files, *(file for folder in sorted(folders) for file in _licence_files(folder))]

    def read(self, path: Path) -> Records:
        if path.is_symlink():
            yield Skipped(str(path), "is a link")
        elif path.is_dir():
            yield Skipped(str(path), "is a vendored folder")
        elif _is_licence(path):
            yield Skipped(str(path), "is a licence")
        elif not path.stat().st_size:
            yield Skipped(str(path), "is empty")
        else:
            yield self._record(path)

    def _below(self, root: Path) -> Iterator[Path]:
        extensions = tuple(extension.lower() for extension in self.params.extensions)
        for directory, below, names in os.walk(root, onerror=_refuse):
            below[:] = sorted(name for name in below if name not in NO_SOURCES)
            apart = [name for name in below if Path(directory, name).is_symlink() or (name in VENDORED and not self.params.vendored)]
            below[:] = [name for name in below if name not in apart]
            yield from (Path(directory, name) for name in apart)
            yield from (Path(directory, name) for name in sorted(names) if name.lower().endswith(extensions))

    def _record(self, path: Path) -> Document | Broken:
        start, blocks = utf8_blocks_of(path)
        piece = whole(blocks, start, self.params.max_bytes)
        try:
            text = text_of(piece)
        except Unreadable as error:
            return broken(str(path), error, piece.data)
        licence = licences.of_header(text[:HEADER]) or self._licence_above(_own(path.parent)) or self.params.licence
        unwanted = self._refused(licence) or (None if self.params.generated else _machine_made(path, text))
        if unwanted is not None:
            return Skipped(str(path), *unwanted, piece.data[:RAW])
        return Document(str(path), text, "code", licence, {"extension": path.suffix})

    def _refused(self, licence: str) -> tuple[str, str] | None:
        """Why a file under this licence is not taken."""
        allowed = self.params.licences
        if allowed is None or licences.allows(licence, allowed):
            return None
        if licence:
            return "has another licence", f"{licence} is none of code.licences"
        return "has no known licence", "no LICENSE file at or above it is known; give code.licence, or licences: null for any"

    def _licence_above(self, folder: Path) -> str:
        """What the nearest licence files say, up to the directories that were given."""
        if folder not in self._licences:
            texts = [file.read_text(encoding="utf-8", errors="replace") for file in _licence_files(folder)]
            said = licences.of_texts(texts) or ("unknown" if texts else "")
            top = folder in self._roots
            self._licences[folder] = said if said or top else self._licence_above(folder.parent)
        return self._licences[folder]

    def _up(self, folder: Path) -> Iterator[Path]:
        """It, and those above it up to the directory that was given."""
        yield folder
        while folder not in self._roots:
            folder = folder.parent
            yield folder

    def _status(self, path: Path) -> os.stat_result:
        return path.stat() if os.path.isfile(path) else path.lstat()

    @cached_property
    def _licences(self) -> dict[Path, str]:
        return {}

    @cached_property
    def _roots(self) -> frozenset[Path]:
        """The directories that were given and do not lie in another of them."""
        given = {_own(_directory(one)) for one in self.params.paths}
        return frozenset(one for one in given if given.isdisjoint(one.parents))


def _directory(given: str) -> Path:
    path = Path(given).expanduser()
    if not path.is_dir():
        raise UserError(f"code source: {given!r} is no directory, looked up from {str(Path.cwd())!r}")
    return path


def _own(folder: Path) -> Path:
    """Its name that is the same by whatever way one comes to it."""
    return Path(os.path.realpath(folder))


def _licence_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _is_licence(file)]


def _refuse(error: OSError) -> None:
    """What may not be looked into is told: `os.walk` alone would go round it in silence."""
    raise UserError(f"code source: cannot look into {str(error.filename)!r}: {error.strerror}") from error


def _is_licence(file: Path) -> bool:
    return (
        licences.FILES.match(file.name) is not None and (file.suffix not in EXTENSIONS.split() or file.suffix in PROSE) and file.is_file()
    )


def _machine_made(path: Path, text: str) -> tuple[str, str] | None:
    """Why nobody wrote this file."""
    first = "\n".join(text[:HEADER].splitlines()[:MARKED_LINES])
    if GENERATED_NAME.search(path.name) or GENERATED.search(first):
        return "is generated", "its name or its first lines say so"
    mean = len(text) / (text.count("\n") + 1)
    if MINIFIED_NAME.search(path.name) or (mean > MINIFIED and path.suffix not in PROSE):
        return "is minified", f"{mean:.0f} characters a line"
    return None
