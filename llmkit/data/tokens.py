"""Token files: flat arrays of integers, and a JSON manifest that says what they are.

    manifest = json.load(open("train.json"))
    shard = manifest["shards"][0]["name"]                                     # train-00000
    tokens = numpy.memmap(f"{shard}.bin", manifest["dtype"], mode="r")
    starts = numpy.memmap(f"{shard}.starts.bin", "<u8", mode="r")
    document = tokens[starts[3] : starts[4] - 1]                              # without the end-of-text that follows it

Its id is line 3 of `train-00000.ids.jsonl`, and the length of its text in UTF-8 number 3 of `train-00000.sizes.bin` (`<u8` as well).
The shards one after another (`cat train-?????.bin`) are one array,

    eos d0 eos d1 eos ... dn eos

in which a document begins after one end-of-text and ends with the next: the first one, which gives the first document what every
other has before it, and what generation starts from, is at the beginning of shard 0, and every other shard is `d eos d eos`.
So the array is the same wherever it is cut, and no document lies in two shards.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import UserError
from llmkit.data import passages
from llmkit.data.cache import checksum, flush
from llmkit.data.durable import draft_of, write_whole
from llmkit.data.passages import Passage

FORMAT = 2
ENDINGS = ("bin", "starts.bin", "sizes.bin", "ids.jsonl")
SHARED = ("format", "dtype", "vocab_size", "eos_id", "tokenizer")
"""What all shards of a file have in common."""
PIECE = 1 << 24

Ids = Sequence[int] | NDArray[np.integer[Any]]
Tokens = NDArray[np.unsignedinteger[Any]]


class SourceRange(NamedTuple):
    """Tokens `[start, end)` are a source's documents, each with the end-of-text after it."""

    source: str
    documents: int
    start: int
    end: int


class TokenWriter:
    """Writes one shard of a token file as documents come; memory does not grow with them. Use it in a `with`.

    The shard has its names (`train-00003.bin`, `.starts.bin`, `.sizes.bin`, `.ids.jsonl`, `.json`) once the `with` is left without an
    error, its manifest last: where that lies, the shard is whole. One that is there already gives way only then. Any process may write
    any shard.
    """

    def __init__(self, directory: Path, name: str, *, vocab_size: int, eos_id: int, tokenizer: str, shard: int = 0) -> None:
        self._directory, self.name = directory, shard_name(name, shard)
        self._facts: dict[str, Any] = {
            "format": FORMAT,
            "dtype": "<u2" if vocab_size <= 1 << 16 else "<u4",
            "vocab_size": vocab_size,
            "eos_id": eos_id,
            "tokenizer": tokenizer,
        }
        self._dtype = np.dtype(self._facts["dtype"])
        self._eos = np.array([eos_id], self._dtype).tobytes()
        self._files = {ending: draft_of(directory / f"{self.name}.{ending}").open("wb") for ending in ENDINGS}
        self._hashes = {ending: hashlib.sha256() for ending in ENDINGS}
        self.n_tokens = self.n_documents = self.n_bytes = 0
        if shard == 0:
            self._append(self._eos)
        self._mark()

    def add(self, document: str, ids: Ids, n_bytes: int) -> None:
        """A document: its id, its tokens without end-of-text, and the length of its text in UTF-8.

        Raises `OverflowError` for an id that the shard's integers cannot hold.
        """
        self._append(_raw(ids, self._dtype) + self._eos)
        self._mark()
        self._write("ids.jsonl", json.dumps(document).encode() + b"\n")
        self._write("sizes.bin", n_bytes.to_bytes(8, "little"))
        self.n_documents += 1
        self.n_bytes += n_bytes

    def _append(self, raw: bytes) -> None:
        self._write("bin", raw)
        self.n_tokens += len(raw) // self._dtype.itemsize

    def _mark(self) -> None:
        """Where the next document starts; after the last one, where the shard ends."""
        self._write("starts.bin", self.n_tokens.to_bytes(8, "little"))

    def _write(self, ending: str, raw: bytes) -> None:
        self._files[ending].write(raw)
        self._hashes[ending].update(raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            for file in self._files.values():
                file.close()
            if error is None:
                self._take_names()
        finally:
            for ending in ENDINGS:
                draft_of(self._path(ending)).unlink(missing_ok=True)

    def _take_names(self) -> None:
        # Without its manifest an older shard of this name is none, so that no moment has its manifest and these tokens.
        self._path("json").unlink(missing_ok=True)
        for ending in ENDINGS:
            draft = draft_of(self._path(ending))
            flush(draft)
            draft.replace(self._path(ending))
        counts = {"tokens": self.n_tokens, "documents": self.n_documents, "bytes": self.n_bytes}
        hashes = {"sha256": {ending: digest.hexdigest() for ending, digest in self._hashes.items()}}
        write_whole(self._path("json"), json.dumps(self._facts | counts | hashes, indent=2) + "\n")

    def _path(self, ending: str) -> Path:
        return self._directory / f"{self.name}.{ending}"


def shard_name(name: str, shard: int) -> str:
    """What the files of a shard are called, without what comes after the dot."""
    return f"{name}-{shard:05d}"


def has_shard(directory: Path, name: str, shard: int) -> bool:
    """Whether a shard is there, whole."""
    return (directory / f"{shard_name(name, shard)}.json").exists()


def seal(directory: Path, name: str, *, sources: Mapping[str, int]) -> None:
    """Make one token file of the shards 0, 1, 2, ... that lie in a directory, by writing `<name>.json` over them.

    sources  name of a source -> how many of the documents are its own. They lie source by source, in this order.

    Raises `ValueError` where the shards are of different kinds, or are not as many documents as the sources: one is missing.
    """
    shards: list[dict[str, Any]] = []
    while has_shard(directory, name, len(shards)):
        path = directory / f"{shard_name(name, len(shards))}.json"
        shards.append({"name": path.stem, **json.loads(path.read_text(encoding="utf-8"))})
    counts = {what: sum(shard[what] for shard in shards) for what in ("tokens", "documents", "bytes")}
    expected = sum(sources.values())
    if not shards or counts["documents"] != expected:
        raise ValueError(f"{len(shards)} shards of {name!r} have {counts['documents']} documents, not {expected}: one is missing")
    if any(shard[key] != shards[0][key] for shard in shards for key in SHARED):
        raise ValueError(f"the shards of {name!r} differ in {', '.join(SHARED)}")
    manifest = {
        **{key: shards[0][key] for key in SHARED},
        **counts,
        "sha256": _checksum_together([directory / f"{shard['name']}.bin" for shard in shards]),
        "sources": [one._asdict() for one in _ranges(directory, shards, sources)],
        "shards": [{key: value for key, value in shard.items() if key not in SHARED} for shard in shards],
    }
    write_whole(directory / f"{name}.json", json.dumps(manifest, indent=2) + "\n")


class TokenFile:
    """A token file, memory-mapped: its shards are one array, `read(start, end)`.

    n_tokens, n_documents
    n_bytes      length of all documents in UTF-8
    sources      which tokens come from which source
    """

    def __init__(self, directory: Path, name: str, *, tokenizer: str | None = None) -> None:
        """Open `<name>.json` and what it describes; `tokenizer` is the fingerprint that it must have been made with.

        Raises `UserError` where a file is missing or torn, or the tokenizer is another.
        """
        self.directory, self.name = Path(directory), name
        self.manifest = self._read_manifest()
        if tokenizer is not None and tokenizer != self.manifest["tokenizer"]:
            raise UserError(
                f"token file {self._path('json')!r} was made with tokenizer {self.manifest['tokenizer']}, not with {tokenizer}: "
                "its ids would mean other text; prepare the data again with this tokenizer"
            )
        self.n_tokens, self.n_documents, self.n_bytes = (int(self.manifest[key]) for key in ("tokens", "documents", "bytes"))
        self.eos_id, self.vocab_size = int(self.manifest["eos_id"]), int(self.manifest["vocab_size"])
        self.sources = [SourceRange(**one) for one in self.manifest["sources"]]
        shards = self.manifest["shards"]
        self._names = [str(shard["name"]) for shard in shards]
        self._first_tokens = list(accumulate((shard["tokens"] for shard in shards), initial=0))
        self._first_documents = list(accumulate((shard["documents"] for shard in shards), initial=0))
        self._tokens: list[Tokens] = [self._map(f"{one['name']}.bin", self.manifest["dtype"], one["tokens"]) for one in shards]
        self._starts: list[NDArray[np.uint64]] = [self._map(f"{one['name']}.starts.bin", "<u8", one["documents"] + 1) for one in shards]

    @property
    def tokenizer(self) -> str:
        """The fingerprint of the tokenizer that made it."""
        return str(self.manifest["tokenizer"])

    @property
    def n_shards(self) -> int:
        """Into how many shards it is cut."""
        return len(self._names)

    def read(self, start: int = 0, end: int | None = None) -> Tokens:
        """Tokens `[start, end)` as (end - start,) uint16 or uint32; what is beyond the end of the file is left out.

        A map of the file where they lie in one shard, else a copy. It takes as long for any length of the file.
        """
        end = self.n_tokens if end is None else min(end, self.n_tokens)
        shard = self._shard_of(start)
        first = self._first_tokens[shard]
        found = self._tokens[shard][start - first : end - first]
        if end <= first + len(self._tokens[shard]):
            return found
        pieces = [found]
        while shard + 1 < self.n_shards and self._first_tokens[shard + 1] < end:
            shard += 1
            pieces.append(self._tokens[shard][: end - self._first_tokens[shard]])
        return np.concatenate(pieces)

    def document(self, index: int) -> Tokens:
        """The tokens of a document, without end-of-text."""
        shard, place = self.place(index)
        starts = self._starts[shard]
        return self._tokens[shard][int(starts[place]) : int(starts[place + 1]) - 1]

    def document_bytes(self, index: int) -> int:
        """The length of a document's text in UTF-8."""
        shard, place = self.place(index)
        return int(self._sizes[shard][place])

    @cached_property
    def _sizes(self) -> list[NDArray[np.uint64]]:
        return [self._map(f"{one['name']}.sizes.bin", "<u8", one["documents"]) for one in self.manifest["shards"]]

    def document_id(self, index: int) -> str:
        """The id of a document. The names of its shard are read up to it."""
        shard, place = self.place(index)
        return passages.read_names(self.shard_path(shard, "ids.jsonl"), {place})[place]

    @property
    def document_ids(self) -> list[str]:
        """The id of every document, all at once: for files that are not long."""
        return [
            json.loads(line)
            for name in self._names
            for line in (self.directory / f"{name}.ids.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    def locate(self, start: int, end: int) -> list[Passage]:
        """The documents that tokens `[start, end)` come from, each with the part that lies in it, its end-of-text included."""
        return passages.locate(self.directory, self.name, [(start, end)])[0]

    def verify(self) -> None:
        """Read it all and compare with the checksums; `UserError` naming a file where it differs."""
        for shard in self.manifest["shards"]:
            for ending, expected in shard["sha256"].items():
                path = self.directory / f"{shard['name']}.{ending}"
                if checksum(path) != expected:
                    raise UserError(f"token file {str(path)!r} does not have the checksum that its manifest says; prepare the data again")

    def _shard_of(self, token: int) -> int:
        return min(bisect_right(self._first_tokens, token), self.n_shards) - 1

    def place(self, document: int) -> tuple[int, int]:
        """The shard that a document lies in, and its place there."""
        if not 0 <= document < self.n_documents:
            raise IndexError(f"document {document} of {self.n_documents}")
        shard = bisect_right(self._first_documents, document) - 1
        return shard, document - self._first_documents[shard]

    def shard_path(self, shard: int, ending: str) -> Path:
        """One of the files of a shard."""
        return self.directory / f"{self._names[shard]}.{ending}"

    def _path(self, ending: str) -> str:
        return str(self.directory / f"{self.name}.{ending}")

    def _read_manifest(self) -> dict[str, Any]:
        path = self._path("json")
        try:
            manifest = dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read token file {path!r}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"token file {path!r} is no JSON: {error}") from error
        if manifest.get("format") != FORMAT:
            raise UserError(
                f"token file {path!r} has format {manifest.get('format')}; this llmkit reads format {FORMAT}: prepare the data again"
            )
        return manifest

    def _map(self, file: str, dtype: str, length: int) -> NDArray[Any]:
        path = self.directory / file
        size = path.stat().st_size if path.exists() else -1
        if size < 0:
            raise UserError(f"token file {str(path)!r} is missing, of which {self._path('json')!r} tells; prepare the data again")
        if size != length * np.dtype(dtype).itemsize:
            raise UserError(
                f"token file {str(path)!r} has {size} bytes and its manifest says {length} numbers of type {dtype}; prepare the data again"
            )
        if not size:
            return np.empty(0, dtype)  # an empty file cannot be mapped
        # A plain array over the map: slicing a memmap costs ten times as much.
        return np.asarray(np.memmap(path, dtype, mode="r"))


def _raw(ids: Ids, dtype: np.dtype[Any]) -> bytes:
    array = np.asarray(ids)
    if array.size and not (array.min() >= 0 and array.max() <= np.iinfo(dtype).max):
        raise OverflowError(f"ids from {array.min()} to {array.max()} do not fit into {dtype}")
    return array.astype(dtype).tobytes()


def _checksum_together(paths: Sequence[Path]) -> str:
    """SHA-256 of files one after another: of the whole array, so that it does not depend on where it is cut."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    return digest.hexdigest()


def _ranges(directory: Path, shards: Sequence[Mapping[str, Any]], sources: Mapping[str, int]) -> list[SourceRange]:
    bounds = [_start_of(directory, shards, document) for document in accumulate(sources.values(), initial=0)]
    return [SourceRange(name, count, *bounds[index : index + 2]) for index, (name, count) in enumerate(sources.items())]


def _start_of(directory: Path, shards: Sequence[Mapping[str, Any]], document: int) -> int:
    """Where a document begins; after the last one, where the array ends."""
    before = 0
    for shard in shards:
        if document <= shard["documents"]:
            start = np.fromfile(directory / f"{shard['name']}.starts.bin", "<u8", count=1, offset=8 * document)
            return before + int(start[0])
        document -= shard["documents"]
        before += shard["tokens"]
    raise IndexError(document)
