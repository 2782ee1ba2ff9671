"""WordPiece over the bytes of UTF-8: a word is cut into the longest pieces that the vocabulary has, from its beginning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from tokenizers import decoders, models, trainers

from llmkit.plugins.tokenizers.components import WordPieceParams
from llmkit.plugins.tokenizers.cut import ALPHABET, learned_from, special, untrained
from llmkit.plugins.tokenizers.fast import FastTokenizer

CONTINUED = "‿"
"""Marks a piece that goes on with a word. BERT's `##` can be text, and `##a` would be two things; this is no byte's spelling."""

LONGEST_WORD = 64
"""Characters of a word: the longest match is looked for again after every piece, so that one endless word would take minutes."""


class WordPiece(FastTokenizer):
    """The longest piece of the vocabulary that begins the word, then the longest that goes on with it, until the word is done.

    `tokens` is `token` and `‿s`: a piece inside a word is another piece than the same letters at its beginning. BERT's form loses
    what it does not know and where white space stood; here a word is the bytes of a cut with the space before it, every byte
    is a piece of either sort, and any text comes back as it was. Special tokens have the first ids, then the 256 bytes, then the 256
    going on, then what was learned, by merging the pair that occurs most often. Schuster and Nakajima 2012; BERT, arXiv 1810.04805.
    """

    learns = True

    @classmethod
    def train(cls, params: WordPieceParams, texts: Iterable[str]) -> Self:
        learner = untrained(params, _model({}), LONGEST_WORD)
        # What is given has its ids in this order. Left to the trainer, the pieces that go on come in the order of a hash.
        given = [*params.all_specials, *ALPHABET, *(CONTINUED + byte for byte in ALPHABET)]
        trainer = trainers.WordPieceTrainer(
            vocab_size=params.vocab_size,
            min_frequency=params.min_frequency,
            special_tokens=given,
            continuing_subword_prefix=CONTINUED,
            show_progress=False,
        )
        learner.train_from_iterator(learned_from(params, texts), trainer)
        backend = untrained(params, _model(learner.get_vocab(with_added_tokens=False)), LONGEST_WORD)
        backend.decoder = decoders.Sequence([decoders.Replace(CONTINUED, ""), decoders.ByteLevel()])
        backend.add_special_tokens(special(params.all_specials))
        return cls(params, backend, params.config)


def _model(vocabulary: dict[str, int]) -> models.WordPiece:
    """Nothing is unknown, as every byte is a piece, and no word is too long, as they are cut before."""
    return models.WordPiece(
        vocabulary, unk_token="<|unknown|>", max_input_chars_per_word=8 * LONGEST_WORD, continuing_subword_prefix=CONTINUED
    )
