"""The tokenizers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.interfaces.tokenizer import END_OF_TEXT, PADDING
from llmkit.core.kinds import Kind

BYTES = 256
ALWAYS = (END_OF_TEXT, PADDING)


class OwnSpecials(Params):
    """The special tokens of a tokenizer that is made here."""

    special_tokens: list[str] = Field(
        default_factory=list,
        description=f"special tokens besides {END_OF_TEXT} and {PADDING}, such as <|user|>; plain text never makes one",
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

    @property
    def all_specials(self) -> list[str]:
        """Every special token, in the order of their ids."""
        return [*ALWAYS, *self.special_tokens]


class BytesParams(OwnSpecials):
    """Parameters of `bytes`."""

    @property
    def vocab_size(self) -> int:
        """256 and the special tokens."""
        return BYTES + len(self.all_specials)


class BpeParams(OwnSpecials):
    """Parameters of `bpe`."""

    vocab_size: int = Field(description="ids, special tokens included; it sizes the model even where training yields fewer", examples=[400])
    min_frequency: int = Field(2, ge=1, description="how often a pair must occur to be merged")
    pattern: Literal["gpt4", "gpt2"] = Field("gpt4", description="how text is cut before merging: no token crosses a cut")
    digits: int = Field(3, ge=1, le=3, description="longest run of digits in one token (pattern gpt4)")

    @model_validator(mode="after")
    def _room_for_bytes(self) -> Self:
        least = BYTES + len(self.all_specials)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small: {BYTES} bytes and {len(self.all_specials)} special tokens need {least}"
            )
        return self


class PretrainedParams(Params):
    """Parameters of `pretrained`."""

    path: str = Field(
        description="a tokenizer.json, or a directory with one or with GPT-2's pair (vocab.json or encoder.json, merges.txt or vocab.bpe)"
    )
    eos: str | None = Field(None, description="the end-of-text token; what its own configuration says unless given")
    bos: str | None = Field(None, description="the begin-of-text token; what its own configuration says unless given")
    pad: str | None = Field(None, description="the padding token; what its own configuration says unless given")

    @property
    def vocab_size(self) -> int:
        """Ids are below this; read from the file as data."""
        from llmkit.plugins.tokenizers.files import vocab_size

        return vocab_size(self.path)


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
            "pretrained",
            PretrainedParams,
            f"{here}.pretrained:Pretrained",
            "a tokenizer from files in Hugging Face's or GPT-2's form",
        ),
    ]
