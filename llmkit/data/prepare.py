"""From sources to a tokenizer to token files: done once, under locks, and kept by the hash of what it was made from."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.mixer import Mixer, Size
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.data.cache import Cache, key_of
from llmkit.data.documents import Cleaned, Documents, Engine
from llmkit.data.documents import Progress as Progress
from llmkit.data.encoding import EncodedAccount, Encoding, Piece, held_out_documents
from llmkit.data.funnel import FUNNEL, Funnel, Share, read_funnel, write_funnel
from llmkit.data.shuffling import Shuffling, parts_of
from llmkit.data.split import is_held_out
from llmkit.data.tokens import FORMAT, TokenFile, seal
from llmkit.data.workers import Task, Workers

SUMMARY = "summary.json"
BROKEN = "broken.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What training needs.

    tokenizer            ready to use
    tokenizer_directory  where it is saved; a run copies it
    train, validation    token files
    fingerprint          of the sources, their cleaning, the split and the tokenizer: equal where the tokens are
    proportions          of the trained tokens from each source; None where they are as they are there
    shares               each source in what is trained on
    name                 of the spec; another may have made the tokens
    """

    tokenizer: Tokenizer
    tokenizer_directory: Path
    train: TokenFile
    validation: TokenFile
    fingerprint: str
    proportions: dict[str, float] | None = None
    shares: tuple[Share, ...] = field(default=())
    name: str = ""

    @property
    def directory(self) -> Path:
        """Where the token files lie, with the funnel and what was set aside."""
        return self.train.directory

    @cached_property
    def funnel(self) -> Funnel:
        """What each stage did."""
        return read_funnel(self.directory).model_copy(update={"name": self.name, "shares": list(self.shares)})

    def contents(self) -> dict[str, str]:
        """What a run goes on with, or not at all: by content, so that a copied or touched file is the same text."""
        train, validation = (str(file.manifest["sha256"]) for file in (self.train, self.validation))
        return {"training_tokens": train, "validation_tokens": validation, "tokenizer": self.tokenizer.fingerprint()}

    def validation_documents(self) -> Iterator[Document]:
        """The held-out text, as it was when the tokens were made."""
        return held_out_documents(self.validation.directory)


class Split(NamedTuple):
    """A document and which side it is on."""

    held_out: bool
    document: Document


def split_documents(spec: Spec) -> Iterator[Split]:
    """Every document that is left of the spec's sources, cleaned, with its side."""
    return _split(Cleaned(spec, Cache(spec.data.cache), Workers(), _silent))


def prepare(
    spec: Spec, *, progress: Progress | None = None, workers: int | None = None, strict: bool = False, engine: Engine | None = None
) -> Prepared:
    """The tokenizer and the token files of a spec, made or reused. Every rank may call it: the first makes, the others wait.

    workers  how many processes work; as many as there are cores, where there is enough to do, unless given
    strict   whether a record that is no document is an error, and not set aside
    engine   what runs them instead of processes of this machine

    Raises `UserError` where a source cannot be read, where nothing is left of the text or a side of the split stays empty, and where
    the tokenizer has more ids than the model has rows. Warns where it has fewer than it was declared to have, and where records were
    no documents.
    """
    cache = Cache(spec.data.cache)
    with cache.told():
        return _Preparation(spec, cache, engine or Workers(workers), progress or _silent, strict).prepared()


def prepared_tokenizer(spec: Spec, *, progress: Progress | None = None) -> Tokenizer:
    """The tokenizer alone, as `prepare` makes or reuses it: nothing is encoded."""
    cache = Cache(spec.data.cache)
    with cache.told():
        return _Preparation(spec, cache, Workers(), progress or _silent, strict=False).tokenizer()[0]


class _Preparation:
    """The way of one spec."""

    def __init__(self, spec: Spec, cache: Cache, engine: Engine, progress: Progress, strict: bool) -> None:
        self.spec, self.cache, self.engine, self.progress, self.strict = spec, cache, engine, progress, strict
        self.cleaned = Cleaned(spec, cache, engine, progress, strict=strict)

    def prepared(self) -> Prepared:
        tokenizer, directory = self.tokenizer()
        _check_sizes(self.spec, tokenizer)
        self._tell_of_one_text()
        facts = {"documents": self.cleaned.key, "held_out": self.cleaned.held_out_key}
        fingerprint = key_of({"format": FORMAT, **facts, "tokenizer": tokenizer.fingerprint(), "eos": tokenizer.eos_id})
        tokens = self.cache.entry("tokens", fingerprint, lambda draft: self._encode(tokenizer, directory, fingerprint, draft), resumed=True)
        if self.spec.data.shuffle_documents:
            ordered, fingerprint = tokens, key_of({"format": FORMAT, "shuffled": fingerprint})
            tokens = self.cache.entry("tokens", fingerprint, lambda draft: self._shuffle(ordered, draft), resumed=True)
        self._tell_broken(tokens)
        train, validation = (TokenFile(tokens, name, tokenizer=tokenizer.fingerprint()) for name in ("train", "validation"))
        shares = _shares(self.spec, json.loads((tokens / SUMMARY).read_text(encoding="utf-8"))["sources"])
        proportions = None if self.spec.data.mixer is None else {share.source: share.proportion for share in shares}
        return Prepared(tokenizer, directory, train, validation, fingerprint, proportions, shares, self.spec.name)

    def tokenizer(self) -> tuple[Tokenizer, Path]:
        """It, and where it is saved."""
        chosen = self.spec.tokenizer
        kind: type[Tokenizer] = chosen.component.resolve()
        if kind.learns:
            facts: dict[str, Any] = {"documents": self.cleaned.key, "held_out": self.cleaned.held_out_key}
        else:
            facts = {"fingerprint": kind.train(chosen.params, ()).fingerprint()}
        key = key_of({"tokenizer": plain(chosen), "revision": chosen.component.revision, **facts})
        directory = self.cache.entry("tokenizers", key, lambda draft: self._train_tokenizer(chosen, draft))
        return kind.load(chosen.params, directory), directory

    def _train_tokenizer(self, chosen: Chosen, draft: Path) -> None:
        kind: type[Tokenizer] = chosen.component.resolve()
        kind.train(chosen.params, self._training_texts() if kind.learns else ()).save(draft)

    def _training_texts(self) -> Iterator[str]:
        counts = [0, 0]
        for held_out, document in _split(self.cleaned):
            counts[held_out] += 1
            if not held_out:
                yield document.text
        if self.spec.data.holdout is None:
            self._check_sides(*counts)
        self.progress("training the tokenizer", 0, None)

    def _encode(self, tokenizer: Tokenizer, directory: Path, fingerprint: str, draft: Path) -> None:
        from llmkit.data.assembling import Encoded, assemble

        documents, held_out = self.cleaned.documents, self.cleaned.held_out
        pieces, tasks = _pieces(documents, held_out, self.spec.data.validation)
        job = Encoding(pieces, self.spec.tokenizer, directory)
        self.engine.run(job, draft, tasks, lambda done, total: self.progress("encoding", done, total))
        accounts = [EncodedAccount.model_validate_json(task.account(draft).read_text(encoding="utf-8")) for task in tasks]
        groups, rest = _by_source(documents, accounts)
        self._seal(draft, groups, rest)
        write_funnel(assemble(self.cleaned, fingerprint, tokenizer, Encoded(groups, rest)), draft)
        self._set_aside(draft)

    def _shuffle(self, ordered: Path, draft: Path) -> None:
        """The training documents in a random order; all else as it is."""
        tokens = TokenFile(ordered, "train")
        parts, tasks = parts_of(tokens)
        self.engine.run(Shuffling(ordered, "train", parts), draft, tasks, lambda done, total: self.progress("shuffling", done, total))
        seal(draft, "train", sources={one.source: one.documents for one in tokens.sources})
        for path in (path for pattern in ("validation*", FUNNEL, SUMMARY, BROKEN) for path in ordered.glob(pattern)):
            shutil.copyfile(path, draft / path.name)

    def _seal(self, draft: Path, groups: dict[str, list[EncodedAccount]], rest: list[EncodedAccount]) -> None:
        """Make token files of the shards, which know their sources; and say how large these are."""
        train = {name: _size(group, "train") for name, group in groups.items()}
        validation = {name: _size(group, "validation") for name, group in groups.items()} if not rest else {}
        held_out = sum(size.documents for size in validation.values()) if not rest else _size(rest, "validation").documents
        self._check_sides(sum(size.documents for size in train.values()), held_out)
        seal(draft, "train", sources={name: size.documents for name, size in train.items()})
        seal(draft, "validation", sources={name: size.documents for name, size in validation.items()} or {"holdout": held_out})
        broken = sum((one.broken or Counter[str]() for one in self.cleaned.read), Counter[str]())
        first = next((one.first_broken for one in self.cleaned.read if one.first_broken), "")
        summary = {"sources": {name: size._asdict() for name, size in train.items()}, "broken": broken, "first_broken": first}
        (draft / SUMMARY).write_text(json.dumps(summary) + "\n", encoding="utf-8")

    def _set_aside(self, draft: Path) -> None:
        with (draft / BROKEN).open("wb") as file:
            for path in (path for one in self.cleaned.read for path in one.set_aside):
                file.write(path.read_bytes())

    def _tell_broken(self, tokens: Path) -> None:
        summary = json.loads((tokens / SUMMARY).read_text(encoding="utf-8"))
        if not summary["broken"]:
            return
        if self.strict:
            raise UserError(f"{summary['first_broken']}; mend it, or leave --strict out to set such records aside")
        counts = ", ".join(f"{reason} ({count:,})" for reason, count in summary["broken"].items())
        warnings.warn(
            f"{sum(summary['broken'].values()):,} records were no documents and were set aside in {str(tokens / BROKEN)!r}: {counts}",
            stacklevel=4,
        )

    def _tell_of_one_text(self) -> None:
        data = self.spec.data
        for name, chosen in data.named_sources.items():
            if data.holdout is not None and plain(chosen) == plain(data.holdout):
                warnings.warn(
                    f"data.holdout is {self.cleaned.described(name)} as well: the model is judged on the text that it is trained on; hold "
                    "out other text, or leave data.holdout out for a part of the source",
                    stacklevel=4,
                )

    def _check_sides(self, n_train: int, n_validation: int) -> None:
        if n_train and n_validation:
            return
        names = list(self.spec.data.named_sources)
        whose = self.cleaned.described(names[0]) if len(names) == 1 else "data.sources"
        total = n_train + n_validation
        empty = "validation" if n_train else "training"
        raise UserError(
            f"{whose} yields {total} documents, none of which falls to {empty} with data.validation "
            f"{self.spec.data.validation}; cut the text into more documents, or set it {'higher' if n_train else 'lower'}"
        )


def _split(cleaned: Cleaned) -> Iterator[Split]:
    fraction = cleaned.spec.data.validation if cleaned.spec.data.holdout is None else 0.0
    for one in cleaned.documents:
        for row in one.rows():
            yield Split(is_held_out(row.place, fraction), row.document)
    if cleaned.held_out is not None:
        for row in cleaned.held_out.rows():
            yield Split(True, row.document)


def _pieces(documents: list[Documents], held_out: Documents | None, fraction: float) -> tuple[tuple[Piece, ...], list[Task]]:
    """What is encoded: the sources' shards for both sides, or for training alone where the validation text is a source of its own."""
    shards = [shard for one in documents for shard in one.shards]
    sides = ("train", "validation") if held_out is None else ("train",)
    pieces = [Piece(shard.path, tuple((side, index) for side in sides), fraction) for index, shard in enumerate(shards)]
    if held_out is not None:
        pieces += [Piece(shard.path, (("validation", index),), fraction) for index, shard in enumerate(held_out.shards)]
        shards += held_out.shards
    return tuple(pieces), [Task(index, shard.bytes) for index, shard in enumerate(shards)]


def _by_source(documents: list[Documents], accounts: list[EncodedAccount]) -> tuple[dict[str, list[EncodedAccount]], list[EncodedAccount]]:
    """The accounts of each source, and those of the held-out one."""
    groups: dict[str, list[EncodedAccount]] = {}
    start = 0
    for one in documents:
        groups[one.source] = accounts[start : start + len(one.shards)]
        start += len(one.shards)
    return groups, accounts[start:]


def _size(accounts: list[EncodedAccount], side: str) -> Size:
    sides = [account.sides[side] for account in accounts if side in account.sides]
    return Size(sum(one.documents for one in sides), sum(one.tokens for one in sides), sum(one.bytes for one in sides))


def _shares(spec: Spec, sizes: dict[str, dict[str, int]]) -> tuple[Share, ...]:
    """Each source in what is trained on: as large as the mixer says, or as it is."""
    found = {name: Size(**size) for name, size in sizes.items()}
    total = sum(size.tokens for size in found.values())
    available = {name: size.tokens / total for name, size in found.items()}
    proportions = available
    if spec.data.mixer is not None:
        empty = next((name for name, size in found.items() if not size.documents), None)
        if empty is not None:
            raise UserError(
                f"data.sources.{empty} has no document left to train on, and data.mixer mixes all; loosen its filters, or remove it"
            )
        mixer: Mixer = spec.data.mixer.make()
        proportions = mixer.proportions(found)
    trained = spec.steps * spec.train.batch_size * spec.seq_len
    return tuple(
        Share(
            source=name,
            documents=size.documents,
            bytes=size.bytes,
            tokens=size.tokens,
            proportion=proportions[name],
            available=available[name],
            epochs=proportions[name] * trained / size.tokens if size.tokens else None,
        )
        for name, size in found.items()
    )


def _check_sizes(spec: Spec, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > spec.vocab_size:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} ids, model.vocab_size is {spec.vocab_size}; raise it or leave it out")
    declared = int(spec.tokenizer.params.vocab_size)
    if tokenizer.vocab_size < declared:
        warnings.warn(
            f"the tokenizer was to have {declared} ids and training on this text gave {tokenizer.vocab_size}; "
            f"the model keeps {spec.vocab_size} rows, and the unused ids are never generated",
            stacklevel=4,
        )


def _silent(stage: str, done: int, total: int | None) -> None:
    return
