"""Stop strings: a completion ends where one of them begins."""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer


class StopStrings:
    """For `generate(stops=...)`: whether one of the strings has appeared. `cut` then takes it, and what follows, off the text.

    `UserError` where a string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        if "" in strings:
            raise UserError("a stop string is empty, which would stop before the first token; give text")
        self.tokenizer = tokenizer
        self.strings = tuple(strings)
        # A token is a byte at least, except special ones, which leave nothing: some more are looked at for their sake.
        self._tail = max((len(string.encode()) for string in strings), default=0) + 8

    def __call__(self, ids: Sequence[int]) -> bool:
        """Whether the end of these new ids has one of the strings in it."""
        if not self.strings:
            return False
        text = self.tokenizer.decode(list(ids[-self._tail :]))
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """The text before the first stop string, or all of it."""
        places = [place for place in map(text.find, self.strings) if place >= 0]
        return text[: min(places)] if places else text

    def certain(self, text: str) -> str:
        """The part of an unfinished text that no stop string can take back: its end may be the beginning of one."""
        begun = [length for string in self.strings for length in range(1, len(string)) if text.endswith(string[:length])]
        return min(self.cut(text), text[: len(text) - max(begun, default=0)], key=len)
