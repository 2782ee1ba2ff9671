"""The characters of the training text as tokens; a character that is none of them is its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self

from tokenizers import Tokenizer, decoders, models

from llmkit.core.sample import sampled
from llmkit.plugins.tokenizers.components import BYTES, CharParams
from llmkit.plugins.tokenizers.cut import special
from llmkit.plugins.tokenizers.fast import LONE_SURROGATES, FastTokenizer


class Character(FastTokenizer):
    """The most frequent characters of the training text, a token each, as many as the vocabulary has room for.

    Every text can be encoded: a character that the training text did not have, or that there is no room for, is the bytes of its
    UTF-8. Special tokens have the first ids, then the 256 bytes, then the characters from the most frequent to the rarest, and
    among equals by code point. A character is a code point: an accent that follows its letter is one of its own.
    """

    learns = True

    @classmethod
    def train(cls, params: CharParams, texts: Iterable[str]) -> Self:
        counts: Counter[str] = Counter()
        for text in sampled(texts, params.sample_bytes):
            counts.update(text.translate(LONE_SURROGATES))
        frequent = sorted(counts, key=lambda character: (-counts[character], character))
        kept = [character for character in frequent if counts[character] >= params.min_frequency]
        names = [*params.all_specials, *(f"<0x{byte:02X}>" for byte in range(BYTES)), *kept]
        # A byte-pair model without merges: it takes a character at a time, and knows how to fall back on bytes.
        backend = Tokenizer(models.BPE({name: index for index, name in enumerate(names[: params.vocab_size])}, [], byte_fallback=True))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        backend.add_special_tokens(special(params.all_specials))
        return cls(params, backend, params.config)
