"""Tokenizers: text to integers and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"


class Tokenizer:
    """A tokenizer. Made by `train` (from text, or at once where it learns nothing) or by `load`.

    Its parameters have `vocab_size` (a field, or a property that reads no heavy library): the ids that the model has rows for,
    special tokens included. Plain text never makes a special token; with `specials=True`, special tokens that are written
    in the text become themselves. Nothing is added at either end of a text.
    """

    learns: ClassVar[bool] = False
    """Whether `train` needs text."""

    @classmethod
    def train(cls, params: Any, texts: Iterable[str]) -> Self:
        """A tokenizer with these parameters; `texts` is read once, and not at all where `learns` is False."""
        raise NotImplementedError

    @classmethod
    def load(cls, params: Any, directory: Path) -> Self:
        """What `save` wrote. `UserError` naming the file where it is missing or damaged."""
        raise NotImplementedError

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and what else is needed into an existing directory; transformers can load it."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """Ids are below this, specials included."""
        raise NotImplementedError

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token -> id."""
        raise NotImplementedError

    @property
    def eos_id(self) -> int:
        """The end of text: it ends every document in training."""
        return self.special_tokens[END_OF_TEXT]

    @property
    def pad_id(self) -> int:
        """What fills a shorter row of a batch; always masked."""
        return self.special_tokens.get(PADDING, self.eos_id)

    @property
    def bos_id(self) -> int:
        """What a sequence starts with in generation: the end of text that separates documents, unless the tokenizer has its own."""
        return self.eos_id

    @property
    def stop_ids(self) -> frozenset[int]:
        """Generation stops at any of these."""
        return frozenset({self.eos_id})

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Text to ids. Any str is encodable, the empty one to []."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str], *, specials: bool = False) -> list[list[int]]:
        """As `encode`, for many texts; override where that is faster."""
        return [self.encode(text, specials=specials) for text in texts]

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of plain text, and for each the span of characters `[start, end)` that it covers."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Ids to text; bytes that are no UTF-8 become U+FFFD. `decode(encode(text)) == text` unless the tokenizer normalises."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of everything that decides the ids: token shards record it."""
        raise NotImplementedError
