"""Prepared data laid out in a directory of a person's own: token files, tokenizer, funnel, and what was set aside."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.data.cache import flush
from llmkit.data.durable import copy_whole, draft_of, told, write_whole
from llmkit.data.funnel import FUNNEL, write_funnel
from llmkit.data.prepare import BROKEN, Prepared

try:
    import fcntl
except ImportError:  # only Unix has it
    fcntl = None  # type: ignore[assignment]

PREPARED = "prepared.json"
"""What `data prepare --json` prints. It is written last: where it lies, the directory is whole."""

TOKENIZER = "tokenizer"
TOKENS = re.compile(r"(train|validation)(-\d{5,})?\.(json|jsonl|bin|starts\.bin|sizes\.bin|ids\.jsonl)")
"""What files of tokens are called, and of held-out text."""

TAKEN = frozenset({TOKENIZER, BROKEN, FUNNEL, "report.html", "report.md"})
"""What else is written over."""


def deliver(prepared: Prepared, directory: Path) -> dict[str, Any]:
    """Fill the directory, in place of what an earlier call put there; return what `prepared.json` holds.

    Files are other names of the cache's own where its file system allows it, else copies. `UserError` where the directory cannot be
    written to, and where something of these names lies there that no earlier call wrote.
    """
    with told(f"prepared data in {str(directory)!r}", "what is prepared is kept in data.cache", "choose another directory with --out"):
        directory.mkdir(parents=True, exist_ok=True)
        # Of two calls at once the second waits: their files would be mixed. Of the directory itself, so that no file is left of it.
        with _alone(directory):
            return _filled(prepared, directory)


def _filled(prepared: Prepared, directory: Path) -> dict[str, Any]:
    _begin(directory)
    for old in _files(directory):
        old.unlink()
    for path in _files(prepared.directory):
        if path.name != FUNNEL:
            _link(path, directory / path.name)
    copy_whole(prepared.tokenizer_directory, directory / TOKENIZER, ignore=["seal.json"])
    document = described(prepared)
    write_funnel(prepared.funnel, directory)
    write_whole(directory / PREPARED, json.dumps(document, indent=2) + "\n")
    return document


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def described(prepared: Prepared) -> dict[str, Any]:
    """What a person's scripts want to know of it."""
    validation = prepared.validation
    return {
        **prepared.funnel.document(),
        "shards": prepared.train.n_shards + validation.n_shards,
        "validation": {"documents": validation.n_documents, "tokens": validation.n_tokens, "bytes": validation.n_bytes},
        "sources": [share.model_dump() for share in prepared.shares],
        "tokenizer": prepared.tokenizer.fingerprint(),
        "fingerprint": prepared.fingerprint,
    }


def _begin(directory: Path) -> None:
    """Leave the name of an unfinished `prepared.json`, by which a call after one that was killed knows the directory for its own."""
    whole = directory / PREPARED
    begun = draft_of(whole)
    if whole.exists():
        whole.replace(begun)
    if begun.exists():
        return
    strange = sorted(path.name for path in directory.iterdir() if path.name in TAKEN or TOKENS.fullmatch(path.name))
    if strange:
        raise UserError(
            f"{str(directory)!r} has no {PREPARED}, so `llmkit data prepare` did not write its {', '.join(map(repr, strange[:3]))}, which "
            "would be lost; choose another directory with --out, or move them away"
        )
    begun.touch()


def _files(directory: Path) -> list[Path]:
    """Those that are ours, by their names."""
    return sorted(path for path in directory.iterdir() if path.name in (BROKEN, FUNNEL) or TOKENS.fullmatch(path.name))


def _link(source: Path, target: Path) -> None:
    draft = draft_of(target)
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
        flush(draft)
    draft.replace(target)
