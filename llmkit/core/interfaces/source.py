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
    """A stream of documents, built with `(params)`. Both methods are to be written. It is plain Python: no torch, no tensor.

    A whole one, with the component that its plugin's hook returns:

        class LinesParams(Params):
            path: str = Field(description="a UTF-8 file with a document on every line")

        class Lines(Source):
            def documents(self, shard: int, of: int) -> Iterator[Document]:
                path = self.params.path
                try:
                    with open(path, encoding="utf-8") as file:
                        for number, line in islice(enumerate(file), shard, None, of):
                            yield Document(f"{path}#{number}", line.strip(), "acme.lines")
                except OSError as error:
                    raise UserError(f"lines source: cannot read {path!r}: {error.strerror}") from error

            def fingerprint(self) -> str:
                status = os.stat(self.params.path)
                return f"{self.params.path}:{status.st_size}:{status.st_mtime_ns}"

        Component(Kind.source, "acme.lines", LinesParams, "llmkit_acme.lines:Lines", "a document on every line of a file")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        """The documents of shard `shard` of `of`, in an order that is the same every time.

        The shards together are all documents, each once; `documents(0, 1)` is the whole. Memory does not grow with the
        input. It is called again for another pass. A blank document is left out by whoever reads. Raises `UserError` naming the
        file or the name where it cannot be read.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Changes whenever the documents may have: prepared data is reused under this key.

        Cheap: sizes and modification times, versions, names; not a pass over the text.
        """
        raise NotImplementedError
