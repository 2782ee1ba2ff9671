"""Synthetic tasks as text: exercises that tell architectures apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from llmkit.core.interfaces.source import Document, Source
from llmkit.plugins.sources.components import SyntheticParams
from llmkit.plugins.tasks.task import instances

WRITTEN = 1
"""Raised when the same parameters write another text."""


class Synthetic(Source):
    """Instances of a task, each a document, drawn independently: the same every time, and none that a probe ever asks.

    A document's id is `task/seed#number`. In a small task two documents may have the same text. Only some of the tokens are answers
    (a quarter in `mqar`, half in `copying` and `induction`), and the loss of all others is chance that nothing learns away.
    """

    params: SyntheticParams

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        task, seed = self.params.task, self.params.seed
        numbers = range(shard, self.params.documents, of)
        for number, instance in zip(numbers, instances(task, seed, held_out=False, indices=numbers), strict=True):
            yield Document(f"{task.type}/{seed}#{number}", instance.text(task.separator), f"synthetic:{task.type}", "CC0-1.0")

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{WRITTEN} {self.params.model_dump_json()}".encode()).hexdigest()[:16]
