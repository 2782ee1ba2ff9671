"""Anything that Hugging Face `datasets` loads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Source
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.columns import text_in
from llmkit.plugins.sources.components import HubParams
from llmkit.plugins.sources.files import broken

LARGE = 1_000_000_000


class Hub(Source):
    """A dataset by name: a repository on the Hub, a local directory, or files of a format (`name: json`, `data_files: [...]`).

    A document's id is `name/split#number`, or what `id_column` says.
    """

    params: HubParams

    def documents(self, shard: int, of: int) -> Iterator[Document | Broken]:
        rows = islice(enumerate(self._rows()), shard, self.params.limit, of)
        for number, row in rows:
            yield self._document(number, row)

    def fingerprint(self) -> str:
        builder = self._builder()
        known = (self.params.model_dump_json(), builder.config_id, builder.hash)
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16]

    def _document(self, number: int, row: dict[str, Any]) -> Document | Broken:
        params = self.params
        place = f"{params.name}/{params.split}#{number}"
        self._check(row, params.column)
        if params.id_column is not None:
            self._check(row, params.id_column)
        try:
            text = text_in(row, params.column)
        except Unreadable as error:
            return broken(place, error, b"")
        name = place if params.id_column is None else str(row[params.id_column])
        return Document(name, text, f"hub:{params.name}")

    def _check(self, row: dict[str, Any], column: str) -> None:
        if column not in row:
            raise UserError(f"hub source: {self.params.name!r} has no column {column!r}; it has {', '.join(row)}")

    def _builder(self) -> Any:
        import datasets

        with _told(self.params):
            return datasets.load_dataset_builder(**self._arguments())

    def _rows(self) -> Iterator[dict[str, Any]]:
        import datasets

        streaming = self._is_large() if self.params.streaming is None else self.params.streaming
        with _told(self.params):
            rows = datasets.load_dataset(**self._arguments(), split=self.params.split, streaming=streaming)
            yield from rows

    def _is_large(self) -> bool:
        info = self._builder().info
        return int(info.download_size or info.dataset_size or 0) > LARGE

    def _arguments(self) -> dict[str, Any]:
        params = self.params
        local = Path(params.name).expanduser()
        path = str(local) if local.exists() else params.name
        return {"path": path, "name": params.config, "data_files": params.data_files, "revision": params.revision}


@contextmanager
def _told(params: HubParams) -> Iterator[None]:
    """What the library raises for a wrong name, file, split or configuration is the user's to mend."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, ValueError, OSError) as error:
        reason = str(error.__cause__ or error).strip() or type(error).__name__
        raise UserError(f"hub source: cannot load {params.name!r} (config {params.config!r}, split {params.split!r}): {reason}") from error
