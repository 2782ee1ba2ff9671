"""Sources: where raw text comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PLAIN = "text/plain"
HTML = "text/html"


@dataclass(frozen=True)
class Document:
    """One text, and what is known of it.

    id          stable and unique within the source (a path, a record's key)
    text        what is trained on; the page itself where `media_type` is `text/html`, until an extractor has made text of it
    source      the name of the source; a spec's own name for it where it names several
    licence     an SPDX identifier or a plain phrase; empty where nobody said
    meta        anything else that JSON can hold
    media_type  `text/plain` or `text/html`
    """

    id: str
    text: str
    source: str = ""
    licence: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    media_type: str = PLAIN


@dataclass(frozen=True)
class Broken:
    """A record that is no document: a line cut in half, bytes that are no UTF-8. It is counted and kept aside, and stops nothing.

    id      where it is: a path with an offset or a line
    reason  what is wrong, in few words that are the same for all records with this fault: `is no UTF-8`
    detail  what is wrong with this one: the byte, the column
    raw     its first bytes, for a person to look at
    """

    id: str
    reason: str
    detail: str = ""
    raw: bytes = b""


@dataclass(frozen=True)
class Skipped(Broken):
    """A record that its source leaves out because a parameter says so: a generated file, a page that was not found.

    Counted by its reason as every loss is, but nothing is wrong with it: whoever stops at what is broken does not stop here.
    """


class Source:
    """A stream of documents, built with `(params)`. `documents` and `fingerprint` are to be written. Plain Python, no torch.

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

    def documents(self, shard: int, of: int) -> Iterator[Document | Broken]:
        """The documents of shard `shard` of `of`, in an order that is the same every time.

        The shards together are all documents, each once; `documents(0, 1)` is the whole. Memory does not grow with the
        input. It is called again for another pass. A blank document is left out by whoever reads. A record that cannot be
        read is yielded as `Broken`, one that is left out as `Skipped`, and reading goes on. Raises `UserError` naming the file or
        the name where there is nothing to go on with: it is missing, or may not be read.
        """
        raise NotImplementedError

    def shards(self) -> int:
        """Into how many shards it is cut without any of them reading another's input: files, as a rule. 1 unless written.

        Several processes read so many shards beside each other. It does not depend on the machine.
        """
        return 1

    def fingerprint(self) -> str:
        """Changes whenever the documents may have: prepared data is reused under this key.

        Cheap: sizes and modification times, versions, names; not a pass over the text.
        """
        raise NotImplementedError
