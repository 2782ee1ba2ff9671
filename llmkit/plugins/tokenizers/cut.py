"""How text is cut before a vocabulary is learned from it, by patterns that `bpe`, `wordpiece` and `unigram` share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from llmkit.core.errors import UserError
from llmkit.core.sample import sampled
from llmkit.plugins.tokenizers.components import CONTRACTIONS, PATTERNS, Cut, Learned

GPT4 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PIECE = re.compile(r"(?s).{1,262144}(?:\n+|\Z)|.{1,262144}")
"""What the library is handed at once of a long text: what it knows of a piece (150 bytes for each character) lies in memory."""

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
"""The 256 bytes, each spelled as one printable character."""


def untrained(params: Cut, model: models.Model, longest: int | None = None) -> Tokenizer:
    """A tokenizer that cuts text by the pattern and spells its bytes, around a model that is still to learn.

    longest  characters of a piece, for models whose time grows with the square of it
    """
    backend = Tokenizer(model)
    pattern = PATTERNS["gpt2"] if params.pattern == "gpt2" else GPT4 % params.digits
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    _refuse_wordlike(params.special_tokens, cut)
    shorter = [] if longest is None else [pre_tokenizers.Split(Regex(rf"(?m:.){{1,{longest}}}"), "isolated")]
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, *shorter, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    return backend


def learned_from(params: Learned, texts: Iterable[str]) -> Iterator[str]:
    """The text to learn from: a sample where one is asked for, long texts cut behind a line end."""
    for text in sampled(texts, params.sample_bytes):
        yield from PIECE.findall(text)


def special(tokens: Iterable[str]) -> list[AddedToken]:
    """Special tokens as the library takes them: found in the text as it stands."""
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def _refuse_wordlike(specials: Iterable[str], cut: pre_tokenizers.Split) -> None:
    # What is one piece of text could be learned as an ordinary token, and would then be the special one.
    for token in specials:
        if len(cut.pre_tokenize_str(token)) == 1:
            raise UserError(f"special token {token!r} reads like ordinary text; write it as <|{token.strip('<|>')}|>")
