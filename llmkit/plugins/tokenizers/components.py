"""The tokenizers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

import json
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmkit.core import chat
from llmkit.core.component import Component, Migration, Params
from llmkit.core.errors import UserError
from llmkit.core.hooks import hookimpl
from llmkit.core.interfaces.tokenizer import END_OF_TEXT, PADDING
from llmkit.core.kinds import Kind
from llmkit.plugins.tokenizers.templates import SPECIALS, TEMPLATES

BYTES = 256
ALWAYS = (END_OF_TEXT, PADDING)

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""How published vocabularies cut text before they merge, by name: no token crosses a cut."""


class OwnSpecials(Params):
    """The special tokens of a tokenizer that is made here."""

    special_tokens: list[str] = Field(
        default_factory=list,
        description=f"special tokens besides {END_OF_TEXT} and {PADDING}, such as <|user|>; plain text never makes one",
    )
    chat_template: str | None = Field(
        None,
        description=f"how a conversation is written: {', '.join(TEMPLATES)}, or a template in Jinja as transformers reads it; "
        "its special tokens must be among `special_tokens`",
    )

    @field_validator("special_tokens")
    @classmethod
    def _distinct_and_unlike_text(cls, tokens: list[str]) -> list[str]:
        for token in tokens:
            if len(token) < 2 or not token.isascii() or not token.isprintable():
                raise ValueError(f"special token {token!r} must be two or more printable ASCII characters, such as <|user|>")
            if token in ALWAYS:
                raise ValueError(f"special token {token!r} is always there; leave it out")
        if len(set(tokens)) < len(tokens):
            raise ValueError(f"special tokens must differ from each other, got {tokens}")
        return tokens

    @field_validator("chat_template")
    @classmethod
    def _writes_special_tokens_that_are_there(cls, template: str | None, info: ValidationInfo) -> str | None:
        if template is None or "special_tokens" not in info.data:
            return template
        if template not in TEMPLATES and "{" not in template:
            raise ValueError(f"{template!r} is neither {', '.join(TEMPLATES)} nor a template in Jinja")
        try:
            written = SPECIALS.get(template) or chat.control_tokens(template)
        except UserError as error:
            raise ValueError(str(error)) from None
        missing = [token for token in written if token not in (*ALWAYS, *info.data["special_tokens"])]
        if missing:
            needed = json.dumps([*info.data["special_tokens"], *missing])
            raise ValueError(f"the chat template writes {', '.join(missing)}, no special token of this tokenizer; special_tokens: {needed}")
        return template

    @property
    def all_specials(self) -> list[str]:
        """Every special token, in the order of their ids."""
        return [*ALWAYS, *self.special_tokens]

    @property
    def jinja(self) -> str | None:
        """The chat template itself."""
        return None if self.chat_template is None else TEMPLATES.get(self.chat_template, self.chat_template)

    @property
    def config(self) -> dict[str, str]:
        """What a tokenizer that is made here writes into its `tokenizer_config.json`: the roles of special tokens, and the template."""
        roles = {"eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "pad_token": PADDING}
        return roles if self.jinja is None else roles | {"chat_template": self.jinja}


class BytesParams(OwnSpecials):
    """Parameters of `bytes`."""

    @property
    def vocab_size(self) -> int:
        """256 and the special tokens."""
        return BYTES + len(self.all_specials)


class Learned(OwnSpecials):
    """What a tokenizer that is trained here is told: how many ids, of which the bytes are always some."""

    always: ClassVar[int] = BYTES
    """Ids that are there besides the special tokens, whatever the text."""

    vocab_size: int = Field(
        description="ids, special tokens included; it sizes the model even where training yields fewer", examples=[400, 600]
    )
    sample_bytes: int | None = Field(
        None,
        ge=1,
        description="bytes of the training text that are learned from, taken evenly by a hash of its passages; all of it unless given. "
        "It bounds the memory of training",
    )

    @model_validator(mode="after")
    def _room_for_bytes(self) -> Self:
        least = self.always + len(self.all_specials)
        if self.vocab_size < least:
            twice = "" if self.always == BYTES else f" in {self.always // BYTES} forms"
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small: {BYTES} bytes{twice} and {len(self.all_specials)} special tokens need {least}"
            )
        return self


class Cut(Learned):
    """How text is cut before anything is learned from it."""

    pattern: Literal["gpt4", "gpt2"] = Field("gpt4", description="how text is cut before it is learned from: no token crosses a cut")
    digits: int = Field(3, ge=1, le=3, description="longest run of digits in one token (pattern gpt4)")


class BpeParams(Cut):
    """Parameters of `bpe`."""

    min_frequency: int = Field(2, ge=1, description="how often a pair must occur to be merged")


class WordPieceParams(Cut):
    """Parameters of `wordpiece`."""

    always: ClassVar[int] = 2 * BYTES

    vocab_size: int = Field(
        description="ids, special tokens included; it sizes the model even where training yields fewer", examples=[600, 700]
    )
    min_frequency: int = Field(2, ge=1, description="how often a pair must occur to be merged")


class UnigramParams(Cut):
    """Parameters of `unigram`."""

    max_piece_length: int = Field(16, ge=1, description="bytes of the longest piece")
    em_steps: int = Field(2, ge=1, description="steps of expectation maximisation before pieces are taken away, each time")


class CharParams(Learned):
    """Parameters of `char`."""

    min_frequency: int = Field(1, ge=1, description="how often a character must occur to be a token; a rarer one is its bytes")


class PretrainedParams(Params):
    """Parameters of `pretrained`."""

    path: str = Field(
        description="a tokenizer.json, GPT-2's pair (vocab.json or encoder.json, merges.txt or vocab.bpe), a tiktoken file, "
        "a SentencePiece .model, or a directory with one of them"
    )
    eos: str | None = Field(None, description="the end-of-text token; what its own configuration says unless given")
    bos: str | None = Field(None, description="the begin-of-text token; what its own configuration says unless given")
    pad: str | None = Field(None, description="the padding token; what its own configuration says unless given")
    pattern: str | None = Field(
        None, description=f"how text is cut, of a tiktoken file, which does not say it: {', '.join(PATTERNS)}, or a regular expression"
    )
    special_tokens: dict[str, int] = Field(
        default_factory=dict,
        description=f"special token -> id, of a tiktoken file, which names none; {END_OF_TEXT} after its last rank unless given",
    )

    @property
    def vocab_size(self) -> int:
        """Ids are below this; read from the file as data."""
        from llmkit.plugins.tokenizers.files import vocab_size

        return vocab_size(self.path, self.special_tokens)

    @property
    def needed_pattern(self) -> str:
        """The pattern; `UserError` where there is none."""
        if self.pattern is None:
            raise UserError(f"tiktoken file {self.path!r} does not say how text is cut; say it as `pattern:`, of {', '.join(PATTERNS)}")
        return self.pattern


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    here = "llmkit.plugins.tokenizers"
    return [
        Component(
            Kind.tokenizer,
            "bpe",
            BpeParams,
            f"{here}.byte_pair:BytePair",
            "byte-level byte-pair encoding, trained on the training documents",
        ),
        Component(Kind.tokenizer, "bytes", BytesParams, f"{here}.utf8:Utf8", "the bytes of UTF-8: 256 ids and the special tokens"),
        Component(
            Kind.tokenizer,
            "char",
            CharParams,
            f"{here}.character:Character",
            "the characters of the training documents, the most frequent first; others are their bytes",
        ),
        Component(
            Kind.tokenizer,
            "pretrained",
            PretrainedParams,
            f"{here}.pretrained:Pretrained",
            "a tokenizer from files in Hugging Face's, GPT-2's, tiktoken's or SentencePiece's form",
        ),
        Component(
            Kind.tokenizer,
            "unigram",
            UnigramParams,
            f"{here}.unigram:Unigram",
            "the likeliest cut into pieces of bytes, a unigram language model trained on the training documents",
            # Revision 1 cut words that are frequent and in no other: the same text gives other pieces now.
            revision=2,
            migrations={1: Migration()},
        ),
        Component(
            Kind.tokenizer,
            "wordpiece",
            WordPieceParams,
            f"{here}.word_piece:WordPiece",
            "the longest pieces of bytes from a word's beginning, trained on the training documents",
        ),
    ]
