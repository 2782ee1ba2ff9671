"""Token files: one flat array of integers, and a JSON manifest that says what they are.

    manifest = json.load(open("train.json"))
    tokens = numpy.memmap("train.bin", manifest["dtype"], mode="r")
    starts = numpy.memmap("train.starts.bin", "<u8", mode="r")
    document = tokens[starts[3] : starts[4] - 1]                     # without the end-of-text that follows it
    name = json.loads(open("train.ids.jsonl").readlines()[3])

The array is `eos d0 eos d1 eos ... dn eos`: a document begins after one end-of-text and ends with the next. The first one
gives the first document what every other has before it, and what generation starts from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import UserError
from llmkit.data import passages
from llmkit.data.passages import Passage

FORMAT = 1


class TokenWriter:
    """Writes a token file as documents come; memory does not grow with them. Use it in a `with`; the manifest is written at its end."""

    def __init__(self, directory: Path, name: str, *, vocab_size: int, eos_id: int, tokenizer: str) -> None:
        self._directory, self._name = directory, name
        self._manifest: dict[str, Any] = {
            "format": FORMAT,
            "dtype": "<u2" if vocab_size <= 1 << 16 else "<u4",
            "vocab_size": vocab_size,
            "eos_id": eos_id,
            "tokenizer": tokenizer,
        }
        self._dtype = np.dtype(self._manifest["dtype"])
        self._tokens = (directory / f"{name}.bin").open("wb")
        self._starts = (directory / f"{name}.starts.bin").open("wb")
        self._ids = (directory / f"{name}.ids.jsonl").open("w", encoding="utf-8")
        self._hash = hashlib.sha256()
        self.n_tokens = self.n_documents = self.n_bytes = 0
        self._append([eos_id])

    def add(self, document: str, ids: Sequence[int], n_bytes: int) -> None:
        """A document: its id, its tokens without end-of-text, and the length of its text in UTF-8."""
        self._append([*ids, self._manifest["eos_id"]])
        self._ids.write(json.dumps(document) + "\n")
        self.n_documents += 1
        self.n_bytes += n_bytes

    def _append(self, ids: Sequence[int]) -> None:
        raw = np.asarray(ids, self._dtype).tobytes()
        self._tokens.write(raw)
        self._hash.update(raw)
        self.n_tokens += len(ids)
        # Where the next document starts; after the last one, where the file ends.
        self._starts.write(self.n_tokens.to_bytes(8, "little"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._tokens, self._starts, self._ids):
            file.close()
        if error is not None:
            return
        counts = {"tokens": self.n_tokens, "documents": self.n_documents, "bytes": self.n_bytes}
        manifest = self._manifest | counts | {"sha256": self._hash.hexdigest()}
        (self._directory / f"{self._name}.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


class TokenFile:
    """A token file, memory-mapped.

    tokens       (n_tokens,) uint16 or uint32
    starts       (n_documents + 1,) uint64: where each document's first token is; the last is n_tokens
    n_bytes      length of all documents in UTF-8
    """

    def __init__(self, directory: Path, name: str, *, tokenizer: str | None = None) -> None:
        """Open `<name>.json` and what it describes; `tokenizer` is the fingerprint that it must have been made with.

        Raises `UserError` where a file is missing or torn, or the tokenizer is another.
        """
        self.directory, self.name = Path(directory), name
        self.manifest = self._read_manifest()
        if self.manifest["format"] != FORMAT:
            raise UserError(f"token file {self._path('json')!r} has format {self.manifest['format']}; this llmkit reads format {FORMAT}")
        if tokenizer is not None and tokenizer != self.manifest["tokenizer"]:
            raise UserError(
                f"token file {self._path('bin')!r} was made with tokenizer {self.manifest['tokenizer']}, not with {tokenizer}: "
                "its ids would mean other text; prepare the data again with this tokenizer"
            )
        self.n_tokens, self.n_documents, self.n_bytes = (int(self.manifest[key]) for key in ("tokens", "documents", "bytes"))
        self.eos_id, self.vocab_size = int(self.manifest["eos_id"]), int(self.manifest["vocab_size"])
        self.tokens: NDArray[np.unsignedinteger[Any]] = self._map("bin", self.manifest["dtype"], self.n_tokens)
        self.starts: NDArray[np.uint64] = self._map("starts.bin", "<u8", self.n_documents + 1)

    @property
    def tokenizer(self) -> str:
        """The fingerprint of the tokenizer that made it."""
        return str(self.manifest["tokenizer"])

    @cached_property
    def document_ids(self) -> list[str]:
        """The id of every document."""
        with (self.directory / f"{self.name}.ids.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def document(self, index: int) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens of a document, without end-of-text."""
        return self.tokens[int(self.starts[index]) : int(self.starts[index + 1]) - 1]

    def locate(self, start: int, end: int) -> list[Passage]:
        """The documents that tokens `[start, end)` come from, each with the part that lies in it, its end-of-text included."""
        return passages.locate(self.directory, self.name, [(start, end)])[0]

    def verify(self) -> None:
        """Read it all and compare with the checksum; `UserError` where it differs."""
        with (self.directory / f"{self.name}.bin").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.manifest["sha256"]:
            raise UserError(f"token file {self._path('bin')!r} does not have the checksum that its manifest says; prepare the data again")

    def _path(self, ending: str) -> str:
        return str(self.directory / f"{self.name}.{ending}")

    def _read_manifest(self) -> dict[str, Any]:
        try:
            return dict(json.loads(Path(self._path("json")).read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read token file {self._path('json')!r}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"token file {self._path('json')!r} is no JSON: {error}") from error

    def _map(self, ending: str, dtype: str, length: int) -> NDArray[Any]:
        path = Path(self._path(ending))
        size = path.stat().st_size if path.exists() else 0
        if size != length * np.dtype(dtype).itemsize:
            raise UserError(
                f"token file {str(path)!r} has {size} bytes and its manifest says {length} numbers of type {dtype}; prepare the data again"
            )
        # A plain array over the map: slicing a memmap costs ten times as much.
        return np.asarray(np.memmap(path, dtype, mode="r"))
