"""The files of a tokenizer: which of a directory's are its, and how they are carried along."""

from __future__ import annotations

import shutil
from pathlib import Path

WHOLE = "tokenizer.json"
BESIDE = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip
"""What transformers writes besides `tokenizer.json`: roles, the chat template, and older forms of the same tokenizer."""

FORMS = (WHOLE, "vocab.json", "*.model", "*.tiktoken")
"""By which files a directory has a tokenizer."""


def tokenizer_slot(place: Path) -> dict[str, str] | None:
    """The spec's slot for the tokenizer at a file or in a directory; None for a directory that has none."""
    if place.is_dir() and not any(next(place.glob(form), None) for form in FORMS):
        return None
    return {"type": "pretrained", "path": str(place.resolve())}


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files as they are, so that its chat template and every setting come along.

    A tokenizer without a `tokenizer.json` brings its chat template alone: `target` has one made of it.
    """
    directory = source if source.is_dir() else source.parent
    whole = source.name == WHOLE or (source.is_dir() and (source / WHOLE).is_file())
    for name in (WHOLE, *BESIDE) if whole else ("chat_template.jinja", "chat_template.json"):
        if (directory / name).is_file():
            shutil.copyfile(directory / name, target / name)
