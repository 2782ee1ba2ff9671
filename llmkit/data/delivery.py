"""Prepared data laid out in a directory of a person's own: token files, tokenizer, funnel, and what was set aside."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from llmkit.data.cache import flush
from llmkit.data.durable import copy_whole, draft_of, told, write_whole
from llmkit.data.funnel import FUNNEL, write_funnel
from llmkit.data.prepare import BROKEN, Prepared

PREPARED = "prepared.json"
"""What `data prepare --json` prints. It is written last: where it lies, the directory is whole."""

OURS = ("train.json", "validation.json", "train-*", "validation-*", BROKEN, FUNNEL)


def deliver(prepared: Prepared, directory: Path) -> dict[str, Any]:
    """Fill the directory, in place of what an earlier call put there; return what `prepared.json` holds.

    Files are other names of the cache's own where its file system allows it, else copies. `UserError` where the directory cannot be
    written to.
    """
    with told(f"prepared data in {str(directory)!r}", "what is prepared is kept in data.cache", "choose another directory with --out"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / PREPARED).unlink(missing_ok=True)
        for pattern in OURS:
            for old in directory.glob(pattern):
                old.unlink()
        for pattern in OURS:
            for path in sorted(prepared.directory.glob(pattern)):
                if path.name != FUNNEL:
                    _link(path, directory / path.name)
        copy_whole(prepared.tokenizer_directory, directory / "tokenizer", ignore=["seal.json"])
        document = described(prepared)
        write_funnel(prepared.funnel, directory)
        write_whole(directory / PREPARED, json.dumps(document, indent=2) + "\n")
    return document


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


def _link(source: Path, target: Path) -> None:
    draft = draft_of(target)
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
        flush(draft)
    draft.replace(target)
