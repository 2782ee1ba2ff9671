"""From a source to a tokenizer to token files: done once, under a lock, and kept by the hash of what it was made from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.data.cache import Cache, key_of
from llmkit.data.split import is_validation
from llmkit.data.tokens import FORMAT, TokenFile, TokenWriter, seal

Progress = Callable[[str, int, int | None], None]
"""Called as (stage, documents done, documents in all where known)."""

BATCH_CHARACTERS = 1 << 20
VALIDATION_TEXT = "validation.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What training needs.

    tokenizer            ready to use
    tokenizer_directory  where it is saved; a run copies it
    train, validation    token files
    fingerprint          of the source, the split and the tokenizer: equal where the tokens are
    proportions          source -> its part of what is trained on; None where it is as much as there is
    """

    tokenizer: Tokenizer
    tokenizer_directory: Path
    train: TokenFile
    validation: TokenFile
    fingerprint: str
    proportions: dict[str, float] | None = None

    def contents(self) -> dict[str, str]:
        """What a run goes on with, or not at all: by content, so that a copied or touched file is the same text."""
        train, validation = (str(file.manifest["sha256"]) for file in (self.train, self.validation))
        return {"training_tokens": train, "validation_tokens": validation, "tokenizer": self.tokenizer.fingerprint()}

    def validation_documents(self) -> Iterator[Document]:
        """The held-out text, as it was when the tokens were made."""
        with (self.validation.directory / VALIDATION_TEXT).open(encoding="utf-8") as file:
            for line in file:
                yield Document(**json.loads(line))


class Split(NamedTuple):
    """A document and which side it is on."""

    held_out: bool
    document: Document


def split_documents(spec: Spec) -> Iterator[Split]:
    """Every document of the spec's source that is not blank, with its side. Half a UTF-16 pair, which no file can hold, becomes U+FFFD."""
    for document in spec.data.source.make().documents(0, 1):
        if not document.text.strip():
            continue
        if not _encodable(document.text):
            document = replace(document, text=document.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        yield Split(is_validation(document.text, spec.data.validation), document)


def prepare(spec: Spec, *, progress: Progress | None = None) -> Prepared:
    """The tokenizer and the token files of a spec, made or reused. Every rank may call it: the first makes, the others wait.

    Raises `UserError` where the source cannot be read, where a side of the split stays empty, and where the tokenizer has more
    ids than the model has rows. Warns where it has fewer than it was declared to have.
    """
    progress = progress or _silent
    cache = Cache(spec.data.cache)
    source = {
        **plain(spec.data.source),
        "revision": spec.data.source.component.revision,
        "fingerprint": spec.data.source.make().fingerprint(),
    }
    tokenizer, directory = _tokenizer(spec, cache, source, progress)
    _check_sizes(spec, tokenizer)
    fingerprint = key_of(
        {
            "format": FORMAT,
            "source": source,
            "validation": spec.data.validation,
            "tokenizer": tokenizer.fingerprint(),
            "eos": tokenizer.eos_id,
        }
    )
    tokens = cache.entry("tokens", fingerprint, lambda draft: _write_tokens(spec, tokenizer, draft, progress))
    train, validation = (TokenFile(tokens, name, tokenizer=tokenizer.fingerprint()) for name in ("train", "validation"))
    return Prepared(tokenizer, directory, train, validation, fingerprint)


def _tokenizer(spec: Spec, cache: Cache, source: dict[str, Any], progress: Progress) -> tuple[Tokenizer, Path]:
    chosen = spec.tokenizer
    kind: type[Tokenizer] = chosen.component.resolve()
    if not kind.learns:
        made = kind.train(chosen.params, ())
        facts: dict[str, Any] = {"fingerprint": made.fingerprint()}
    else:
        facts = {"source": source, "validation": spec.data.validation}
    key = key_of({"tokenizer": plain(chosen), "revision": chosen.component.revision, **facts})
    directory = cache.entry("tokenizers", key, lambda draft: _train_tokenizer(spec, chosen, draft, progress))
    return kind.load(chosen.params, directory), directory


def _train_tokenizer(spec: Spec, chosen: Chosen, draft: Path, progress: Progress) -> None:
    kind: type[Tokenizer] = chosen.component.resolve()
    kind.train(chosen.params, _training_texts(spec, progress) if kind.learns else ()).save(draft)


def _training_texts(spec: Spec, progress: Progress) -> Iterator[str]:
    counts = [0, 0]
    for held_out, document in split_documents(spec):
        counts[held_out] += 1
        progress("reading", sum(counts), None)
        if not held_out:
            yield document.text
    _check_sides(spec, *counts)
    progress("training the tokenizer", 0, None)


def _write_tokens(spec: Spec, tokenizer: Tokenizer, draft: Path, progress: Progress) -> None:
    facts: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "tokenizer": tokenizer.fingerprint()}
    done = 0
    with (
        TokenWriter(draft, "train", **facts) as train,
        TokenWriter(draft, "validation", **facts) as validation,
        (draft / VALIDATION_TEXT).open("w", encoding="utf-8") as text,
    ):
        for batch in _grouped(split_documents(spec)):
            rows = tokenizer.encode_batch([document.text for _, document in batch])
            for (held_out, document), ids in zip(batch, rows, strict=True):
                (validation if held_out else train).add(document.id, ids, len(document.text.encode()))
                if held_out:
                    text.write(json.dumps(asdict(document)) + "\n")
            done += len(batch)
            progress("encoding", done, None)
    _check_sides(spec, train.n_documents, validation.n_documents)
    for name, written in (("train", train), ("validation", validation)):
        seal(draft, name, sources={next(iter(spec.data.named_sources)): written.n_documents})


def _grouped(documents: Iterator[Split]) -> Iterator[list[Split]]:
    """Documents in groups of about a million characters: enough to keep all cores busy, little enough to hold."""
    group: list[Split] = []
    characters = 0
    for split in documents:
        group.append(split)
        characters += len(split.document.text)
        if characters >= BATCH_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _check_sides(spec: Spec, n_train: int, n_validation: int) -> None:
    if n_train and n_validation:
        return
    source = spec.data.source.type
    if not n_train + n_validation:
        raise UserError(f"data.source {source!r} yields no text")
    empty = "validation" if n_train else "training"
    raise UserError(
        f"data.source {source!r} yields {n_train + n_validation} documents, none of which falls to {empty} with data.validation "
        f"{spec.data.validation}; cut the text into more documents, or set it {'higher' if n_train else 'lower'}"
    )


def _check_sizes(spec: Spec, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > spec.vocab_size:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} ids, model.vocab_size is {spec.vocab_size}; raise it or leave it out")
    declared = int(spec.tokenizer.params.vocab_size)
    if tokenizer.vocab_size < declared:
        warnings.warn(
            f"the tokenizer was to have {declared} ids and training on this text gave {tokenizer.vocab_size}; "
            f"the model keeps {spec.vocab_size} rows, and the unused ids are never generated",
            stacklevel=3,
        )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _silent(stage: str, done: int, total: int | None) -> None:
    return
