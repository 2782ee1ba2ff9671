"""Tokenizers: text to integers and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from llmkit.core import chat
from llmkit.core.chat import Messages
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"


class Tokenizer:
    """Text to integers and back. Made by `train` (from text, or at once where it learns nothing) or by `load`.

    Its parameters have `vocab_size` (a field, or a property that reads no heavy library): the ids that the model has rows for,
    special tokens included. Three laws: `decode(encode(text)) == text` for every text, unless the tokenizer normalises; plain
    text never makes a special token, while with `specials=True` those that are written in the text become themselves; nothing
    is added at either end of a text. It is plain Python: no torch, no tensor. `encode_batch`, `encode_arrays`, `pad_id`, `bos_id`,
    `stop_ids`, `chat_template` and what is made of it may be left out.

    A whole one, with the component that its plugin's hook returns:

        class NibblesParams(Params):
            @property
            def vocab_size(self) -> int:
                return 18

        class Nibbles(Tokenizer):
            vocab_size = 18
            special_tokens = {END_OF_TEXT: 16, PADDING: 17}

            @classmethod
            def train(cls, params, texts):
                return cls()

            @classmethod
            def load(cls, params, directory):
                return cls()

            def save(self, directory):
                (directory / "nibbles.txt").write_text("two hexadecimal digits a byte")

            def encode(self, text, *, specials=False):
                pieces = re.split("(<[|]endoftext[|]>|<[|]pad[|]>)", text) if specials else [text]
                return [index for piece in pieces for index in self._piece(piece, specials)]

            def _piece(self, piece, specials):
                if specials and piece in self.special_tokens:
                    return [self.special_tokens[piece]]
                return [int(digit, 16) for digit in piece.encode("utf-8", "replace").hex()]

            def encode_offsets(self, text):
                lengths = [2 * len(character.encode("utf-8", "replace")) for character in text]
                return self.encode(text), [(place, place + 1) for place, length in enumerate(lengths) for _ in range(length)]

            def decode(self, ids, *, skip_specials=True):
                if not skip_specials:
                    names = {index: name for name, index in self.special_tokens.items()}
                    ids = [nibble for index in ids for nibble in (self.encode(names[index]) if index in names else [index])]
                digits = "".join(f"{index:x}" for index in ids if index < 16)
                return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8", "replace")

            def fingerprint(self):
                return "nibbles-1"

        Component(Kind.tokenizer, "acme.nibbles", NibblesParams, "llmkit_acme.nibbles:Nibbles", "two ids a byte")
    """

    learns: ClassVar[bool] = False
    """Whether `train` needs text."""

    @classmethod
    def train(cls, params: Any, texts: Iterable[str]) -> Self:
        """A tokenizer with these parameters.

        texts   the training documents, read once, one at a time; empty where `learns` is False
        return  deterministic: the same texts give the same ids, for the result is kept by the hash of what it was made from
        """
        raise NotImplementedError

    @classmethod
    def load(cls, params: Any, directory: Path) -> Self:
        """What `save` wrote. `UserError` naming the file where it is missing or damaged."""
        raise NotImplementedError

    def save(self, directory: Path) -> None:
        """Write what `load` needs into an existing directory.

        As `tokenizer.json` and `tokenizer_config.json`, which transformers loads, wherever their form can express it.
        """
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
        """Generation stops at any of these: the end of text, and what ends an assistant's turn by the chat template."""
        turn = self.end_of_turn
        return frozenset({self.eos_id} if turn is None else {self.eos_id, self.special_tokens[turn]})

    @property
    def roles(self) -> dict[str, str]:
        """Role -> special token, by transformers' names for them (`eos_token`): a chat template reads them."""
        names = {index: token for token, index in self.special_tokens.items()}
        ids = {"eos_token": self.eos_id, "bos_token": self.bos_id, "pad_token": self.pad_id}
        return {role: names[index] for role, index in ids.items() if index in names}

    @property
    def chat_template(self) -> str | None:
        """How a conversation is written, in Jinja as transformers reads it; None where there is no such thing."""
        return None

    @property
    def end_of_turn(self) -> str | None:
        """The special token with which the chat template ends what an assistant said; None where it has none."""
        template = self.chat_template
        return None if template is None else chat.end_of_turn(template, frozenset(self.special_tokens), tuple(self.roles.items()))

    def apply_chat(self, messages: Messages, *, add_generation_prompt: bool = False, **variables: Any) -> str:
        """A conversation as text, as transformers' `apply_chat_template(..., tokenize=False)` writes it.

        messages               mappings with `role` and `content`
        add_generation_prompt  whether the beginning of an answer follows
        variables              what else the template reads: `tools`, `enable_thinking`, ...

        `UserError` where there is no template, or it refuses the conversation. For ids, take `encode_chat`.
        """
        template = self.chat_template
        if template is None:
            raise UserError("this tokenizer has no chat template; make one with `chat_template: chatml`, or another, or Jinja of your own")
        return chat.render(template, messages, **self.roles | {"add_generation_prompt": add_generation_prompt} | variables)

    def encode_chat(self, messages: Messages, *, add_generation_prompt: bool = False, **variables: Any) -> list[int]:
        """The ids of a conversation. The template's special tokens are themselves; one that is spelled in a message, or in a variable
        whose name does not end in `_token`, is text, as always.

        Nothing is added at the beginning: a template that wants the begin-of-text token writes it.
        """
        said = {name: value for name, value in variables.items() if not name.endswith("_token")}
        apart, joint = chat.held_apart({**said, "messages": list(messages)}, self.special_tokens)
        written = self.apply_chat(apart.pop("messages"), add_generation_prompt=add_generation_prompt, **variables | apart)
        ids: list[int] = []
        for piece in chat.spelled(self.special_tokens).split(written):
            special = self.special_tokens.get(piece)
            ids += self.encode(piece.replace(joint, "")) if special is None else [special]
        return ids

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Text to ids. Any str is encodable, the empty one to []."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str], *, specials: bool = False) -> list[list[int]]:
        """As `encode`, for many texts; override where that is faster."""
        return [self.encode(text, specials=specials) for text in texts]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """As `encode_batch` of plain text, as arrays: for text by the gigabyte, where lists of integers cost more than what is in them."""
        import numpy as np

        return [np.asarray(ids, np.uint32) for ids in self.encode_batch(texts)]

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of plain text, and for each the span of characters `[start, end)` that it covers."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Ids to text; bytes that are no UTF-8 become U+FFFD. `decode(encode(text)) == text` unless the tokenizer normalises."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of everything that decides the ids, the same after `save` and `load`: token files record it."""
        raise NotImplementedError
