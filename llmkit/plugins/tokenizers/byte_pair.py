"""Byte-pair encoding over the bytes of UTF-8, trained on the training documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from tokenizers import models, trainers

from llmkit.plugins.tokenizers.components import BpeParams
from llmkit.plugins.tokenizers.cut import ALPHABET, learned_from, special, untrained
from llmkit.plugins.tokenizers.fast import FastTokenizer


class BytePair(FastTokenizer):
    """Starts from the 256 bytes and merges the pair that occurs most often, until the vocabulary is full.

    Text is first cut by a pattern (words with the space before them, runs of digits, of signs, of white space), and no merge
    crosses a cut. Special tokens have the first ids, then the bytes, then the merges. Sennrich et al., arXiv 1508.07909;
    bytes: Radford et al. 2019.
    """

    learns = True

    @classmethod
    def train(cls, params: BpeParams, texts: Iterable[str]) -> Self:
        backend = untrained(params, models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=params.vocab_size,
            min_frequency=params.min_frequency,
            special_tokens=special(params.all_specials),
            initial_alphabet=ALPHABET,
            show_progress=False,
        )
        backend.train_from_iterator(learned_from(params, texts), trainer)
        return cls(params, backend, params.config)
