"""A unigram language model over pieces of the bytes of UTF-8: a text is cut where its pieces are likeliest together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers.components import UnigramParams
from llmkit.plugins.tokenizers.cut import ALPHABET, learned_from, special, untrained
from llmkit.plugins.tokenizers.fast import FastTokenizer

Pieces = list[tuple[str, float]]

FILLERS = 0.03
"""The trainer gives bytes that it has not seen the score of its rarest piece and up to 256 steps of 0.0001, in the order of a hash."""

DIGITS = 4
"""Decimals of a log probability that are kept: sums in another order differ in the twelfth."""

BETWEEN, BOUNDARY, MARK = "\n", "\0", "\1"
"""Characters that are in no word, whose bytes are spelled otherwise. Words are handed over with the first between them; the second is
the trainer's own sign for where a word ends, across which it takes no substring; the third stands before it."""

LISTED = 64
"""Words in one entry of the list of all words: the lattice over an entry lies in memory."""


class Unigram(FastTokenizer):
    """Of all ways to cut a word into pieces, the one with the greatest product of probabilities p(x_1) ... p(x_n), by Viterbi.

    Training begins with all frequent substrings, estimates p by expectation maximisation, and takes away the pieces that are missed
    least, until the vocabulary is small enough; the 256 bytes stay, so that any text comes back as it was. Text is cut as `bpe`
    cuts it. Special tokens have the first ids, then the pieces from the likeliest to the rarest. Kudo, arXiv 1804.10959.
    """

    learns = True

    @classmethod
    def train(cls, params: UnigramParams, texts: Iterable[str]) -> Self:
        cut = untrained(params, models.Unigram()).pre_tokenizer
        learner = Tokenizer(models.Unigram())
        learner.pre_tokenizer = pre_tokenizers.Split(BETWEEN, "removed")
        trainer = trainers.UnigramTrainer(
            vocab_size=params.vocab_size + len(BOUNDARY + MARK),
            special_tokens=params.all_specials,
            initial_alphabet=ALPHABET,
            max_piece_length=params.max_piece_length,
            n_sub_iterations=params.em_steps,
            show_progress=False,
        )
        learner.train_from_iterator(_words(learned_from(params, texts), cut), trainer)
        learned = json.loads(learner.to_str())["model"]["vocab"]
        if any(score is None for _, score in learned):
            raise UserError("tokenizer unigram has no text to learn from; check data.source and data.validation")
        specials = params.all_specials
        pieces = _settled([(piece, score) for piece, score in learned if piece not in (*specials, BOUNDARY, MARK)])
        backend = untrained(params, models.Unigram([*((token, 0.0) for token in specials), *pieces]))
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(special(specials))
        return cls(params, backend, params.config)


def _words(texts: Iterable[str], cut: pre_tokenizers.PreTokenizer) -> Iterator[str]:
    """All words as they come, but the first of each, which stands in the list of all different words that follows at the end.

    The trainer begins with the substrings that occur twice in *its* list of different words, and there before different characters.
    A word that no other contains is none of them: it would be cut, however frequent (15% more tokens than SentencePiece's, on
    Shakespeare). So each that occurs again is in that list once more, before the mark. As nothing but a boundary is behind a mark, no
    substring holds one.
    """
    seen: dict[str, None] = {}
    for text in texts:
        again = []
        for word, _ in cut.pre_tokenize_str(text):
            if word in seen:
                again.append(word)
            else:
                seen[word] = None
        yield BETWEEN.join(again)
    listed = list(seen)
    for start in range(0, len(listed), LISTED):
        yield BOUNDARY.join(word + MARK for word in listed[start : start + LISTED])


def _settled(pieces: Pieces) -> Pieces:
    """The pieces from the likeliest to the rarest, without what the order of a hash did to them: training is a function of the text."""
    rarest = min(score for _, score in pieces)
    scores = {piece: round(rarest if len(piece) == 1 and score <= rarest + FILLERS else score, DIGITS) for piece, score in pieces}
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
