"""A tokenizer by itself: trained on a spec's cleaned training text or on files, measured, and saved."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.spec import Spec
from llmkit.data.durable import draft_of, take_name, told
from llmkit.data.prepare import Progress, prepared_tokenizer, split_documents
from llmkit.data.tokenizer_texts import Text, documents_of, gathered, places

MEASURED_BYTES = 4_000_000


class Trained(NamedTuple):
    """A tokenizer, and how much text a token of it is.

    measured_on  which text that is: held out, or the one that it learned from
    """

    tokenizer: Tokenizer
    bytes_per_token: float
    measured_on: str

    def document(self) -> dict[str, Any]:
        """As `tokenizer train --json` prints it."""
        return {
            "vocab_size": self.tokenizer.vocab_size,
            "bytes_per_token": self.bytes_per_token,
            "measured_on": self.measured_on,
            "special_tokens": self.tokenizer.special_tokens,
            "chat_template": self.tokenizer.chat_template is not None,
            "fingerprint": self.tokenizer.fingerprint(),
        }


def trained_on_data(spec: Spec, progress: Progress) -> Trained:
    """As `train` makes it: on the documents that are trained on; what was made before is reused."""
    tokenizer = prepared_tokenizer(spec, progress=progress)
    return Trained(tokenizer, _bytes_per_token(tokenizer, gathered(held_out(spec), MEASURED_BYTES)), "held-out documents")


def trained_on_files(spec: Spec, arguments: Sequence[str], progress: Progress) -> Trained:
    """On files as they are, in bounded memory where the tokenizer samples; `UserError` where there is no text in them."""
    found = places(arguments)
    progress("training the tokenizer", 0, None)
    tokenizer = trained(spec, _some(chain.from_iterable(map(documents_of, found))))
    texts = gathered(((place.name, documents_of(place)) for place in found), MEASURED_BYTES)
    return Trained(tokenizer, _bytes_per_token(tokenizer, texts), "the text that it learned from")


def trained(spec: Spec, texts: Iterable[str] = ()) -> Tokenizer:
    """The spec's tokenizer, made of these texts; of none where it learns nothing."""
    made: Tokenizer = spec.tokenizer.component.resolve().train(spec.tokenizer.params, texts)
    return made


def learns(spec: Spec) -> bool:
    """Whether the spec's tokenizer is made of text."""
    return bool(spec.tokenizer.component.resolve().learns)


def held_out(spec: Spec) -> Iterator[tuple[str, Iterable[str]]]:
    """The held-out documents of a spec, under the name of their source: a pass for each source, so that not all of them are held."""
    for source in dict.fromkeys(document.source for document in _held_out(spec)):
        yield source, _held_out_of(spec, source)


def save(tokenizer: Tokenizer, place: Path) -> None:
    """Write a tokenizer into a directory that is complete or absent."""
    with told(f"the tokenizer {str(place)!r}", otherwise="name another directory with --out"):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_of(place)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        tokenizer.save(draft)
        take_name(draft, place)


def _held_out(spec: Spec) -> Iterator[Document]:
    return (document for held_out, document in split_documents(spec) if held_out)


def _held_out_of(spec: Spec, source: str) -> Iterator[str]:
    return (document.text for document in _held_out(spec) if document.source == source)


def _some(texts: Iterable[str]) -> Iterator[str]:
    found = False
    for text in texts:
        found = found or not text.isspace()
        yield text
    if not found:
        raise UserError("there is no text to learn from; give --text FILE with some")


def _bytes_per_token(tokenizer: Tokenizer, texts: Iterable[Text]) -> float:
    documents = [document for text in texts for document in text.documents]
    tokens = sum(map(len, tokenizer.encode_batch(documents)))
    return sum(len(document.encode("utf-8", "surrogatepass")) for document in documents) / max(tokens, 1)
