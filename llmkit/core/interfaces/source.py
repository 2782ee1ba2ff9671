"""Sources: where raw text comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Document:
    """One text, and what is known of it.

    id       stable and unique within the source (a path, a record's key)
    text     what is trained on
    source   the name of the source
    licence  an SPDX identifier or a plain phrase; empty where nobody said
    meta     anything else that JSON can hold
    """

    id: str
    text: str
    source: str = ""
    licence: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class Source:
    """A stream of documents, built with `(params)`."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        """The documents of shard `shard` of `of`, in an order that is the same every time.

        The shards together are all documents, each once; `documents(0, 1)` is the whole. Memory does not grow with the
        input. Raises `UserError` naming the file or the name where it cannot be read.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Changes whenever the documents may have: prepared data is reused under this key.

        Cheap: sizes and modification times, versions, names; not a pass over the text.
        """
        raise NotImplementedError
