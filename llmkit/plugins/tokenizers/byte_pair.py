"""Byte-pair encoding over the bytes of UTF-8, trained on the training documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import END_OF_TEXT, PADDING
from llmkit.plugins.tokenizers.components import BpeParams
from llmkit.plugins.tokenizers.fast import FastTokenizer, backend_from_json
from llmkit.plugins.tokenizers.files import read_json

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT4 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class BytePair(FastTokenizer):
    """Starts from the 256 bytes and merges the pair that occurs most often, until the vocabulary is full.

    Text is first cut by a pattern (words with the space before them, runs of digits, of signs, of white space), and no merge
    crosses a cut. Special tokens have the first ids, then the bytes, then the merges. Sennrich et al., arXiv 1508.07909;
    bytes: Radford et al. 2019.
    """

    learns = True

    @classmethod
    def train(cls, params: BpeParams, texts: Iterable[str]) -> Self:
        backend = Tokenizer(models.BPE())
        pattern = GPT2 if params.pattern == "gpt2" else GPT4 % params.digits
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
        _refuse_wordlike(params.special_tokens, cut)
        backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=params.vocab_size,
            min_frequency=params.min_frequency,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in params.all_specials],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(params, backend, {"eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "pad_token": PADDING})

    @classmethod
    def load(cls, params: BpeParams, directory: Path) -> Self:
        return cls(params, backend_from_json(directory / "tokenizer.json"), read_json(directory / "tokenizer_config.json"))


def _refuse_wordlike(specials: Iterable[str], cut: pre_tokenizers.Split) -> None:
    # What is one piece of text could be learned as an ordinary token, and would then be the special one.
    for token in specials:
        if len(cut.pre_tokenize_str(token)) == 1:
            raise UserError(f"special token {token!r} reads like ordinary text; write it as <|{token.strip('<|>')}|>")
