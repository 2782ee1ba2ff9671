"""Tokenizers in other people's forms, made into the `tokenizers` library's, with the same ids for every text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import END_OF_TEXT
from llmkit.plugins.tokenizers.components import PATTERNS
from llmkit.plugins.tokenizers.cut import special
from llmkit.plugins.tokenizers.files import read_merges, read_ranks, read_vocabulary
from llmkit.plugins.tokenizers.sentence_piece import Piece, SentencePieceModel, Sort, read_sentence_piece
from llmkit.plugins.tokenizers.utf8 import spelling

SPACE = "▁"
UNIGRAM, BPE = 1, 2
SCORE_DIGITS = 6


def from_pair(vocabulary: Path, merges: Path) -> Tokenizer:
    """GPT-2's form. What is neither a byte nor a merge can be made by no text: those are its special tokens."""
    tokens = read_vocabulary(vocabulary)
    pairs = read_merges(merges)
    missing = next((token for left, right in pairs for token in (left, right, left + right) if token not in tokens), None)
    if missing is not None:
        raise UserError(f"{str(merges)!r} merges {missing!r}, which {str(vocabulary)!r} does not have; give the two that belong together")
    backend = Tokenizer(models.BPE(vocab=tokens, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    reachable = {*pre_tokenizers.ByteLevel.alphabet(), *(left + right for left, right in pairs)}
    backend.add_special_tokens(special(sorted(set(tokens) - reachable, key=tokens.__getitem__)))
    return backend


def from_ranks(path: Path, pattern: str, specials: Mapping[str, int]) -> Tokenizer:
    """tiktoken's form: a piece that is a token is that token, else the two neighbours merge whose union has the lowest rank."""
    ranks = read_ranks(path)
    spelled = spelling()
    tokens = {"".join(spelled[byte] for byte in token): rank for token, rank in ranks.items()}
    specials = specials or {END_OF_TEXT: 1 + max(ranks.values())}
    _refuse_taken(specials, set(ranks.values()))
    merges = unions(tokens, sorted(tokens, key=tokens.__getitem__))
    backend = Tokenizer(models.BPE({**tokens, **specials}, merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence([_cut(pattern), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special(sorted(specials, key=specials.__getitem__)))
    return backend


def _cut(pattern: str) -> pre_tokenizers.Split:
    try:
        return pre_tokenizers.Split(Regex(PATTERNS.get(pattern, pattern)), "isolated")
    except Exception as error:  # the library raises bare Exception
        known = ", ".join(PATTERNS)
        raise UserError(f"tokenizer pattern {pattern!r} is neither {known} nor an expression that Oniguruma reads: {error}") from error


def _refuse_taken(specials: Mapping[str, int], ranks: set[int]) -> None:
    for token, index in specials.items():
        if index in ranks or index < 0:
            raise UserError(
                f"special token {token!r} cannot have the id {index}: an ordinary token has it; the first free one is {max(ranks) + 1}"
            )
    if len(set(specials.values())) < len(specials):
        raise UserError(f"special tokens must have ids of their own, got {dict(specials)}")


def unions(vocabulary: Mapping[str, int], ordered: list[str]) -> list[tuple[str, str]]:
    """Every way to make each token of two others, the tokens in the order in which they are made.

    Neither tiktoken nor SentencePiece says how a token came about: any two neighbours merge whose union is one.
    """
    return [
        (token[:place], token[place:])
        for token in ordered
        for place in range(1, len(token))
        if token[:place] in vocabulary and token[place:] in vocabulary
    ]


def from_sentence_piece(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """SentencePiece's form, and the roles of its special tokens; `UserError` for what the library's form cannot say."""
    model = read_sentence_piece(path)
    _refuse_inexpressible(model, path)
    backend = Tokenizer(_unigram(model) if model.algorithm == UNIGRAM else _byte_pairs(model))
    backend.normalizer = normalizers.Sequence(_normalizers(model))
    if model.algorithm == UNIGRAM:
        backend.pre_tokenizer = _apart(model.pieces)
    space = [decoders.Replace(SPACE, " ")] if model.escapes_space else []
    first = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix or model.trims_space else []
    backend.decoder = decoders.Sequence([*space, decoders.ByteFallback(), decoders.Fuse(), *first])
    backend.add_special_tokens(special(piece.text for piece in model.pieces if piece.sort in (Sort.control, Sort.unknown)))
    if model.algorithm == BPE:
        whole = [piece.text for piece in model.pieces if piece.sort is Sort.user_defined]
        backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in whole])
    return backend, {f"{role}_token": model.pieces[index].text for role, index in model.roles.items()}


def _refuse_inexpressible(model: SentencePieceModel, path: Path) -> None:
    reasons = {
        "it is neither a unigram nor a bpe model": model.algorithm not in (UNIGRAM, BPE),
        "it marks white space behind words": model.suffix_space,
        "it has unused pieces": any(piece.sort is Sort.unused for piece in model.pieces),
        "two of its pieces are the same": len({piece.text for piece in model.pieces}) < len(model.pieces),
        "it is a bpe model with pieces of the user's own and adds or removes spaces at the ends": model.algorithm == BPE
        and (model.dummy_prefix or model.trims_space)
        and any(piece.sort is Sort.user_defined for piece in model.pieces),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise UserError(
            f"{str(path)!r} cannot be read with the same ids for every text: {'; '.join(found)}; "
            "give the model's tokenizer.json instead, if it has one"
        )


def _unigram(model: SentencePieceModel) -> models.Unigram:
    """A piece of the user's own is always taken: SentencePiece gives it the best score once a byte."""
    best = max((piece.score for piece in model.pieces if piece.sort is Sort.normal), default=0.0)
    scores = [len(piece.text.encode()) * best - 0.1 if piece.sort is Sort.user_defined else piece.score for piece in model.pieces]
    # Short decimals: the library reads long ones back with another last digit, and a saved model would be another.
    pieces = [(piece.text, round(score, SCORE_DIGITS)) for piece, score in zip(model.pieces, scores, strict=True)]
    return models.Unigram(pieces, unk_id=model.roles.get("unk"), byte_fallback=model.byte_fallback)


def _byte_pairs(model: SentencePieceModel) -> models.BPE:
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    normal = {piece.text: piece.score for piece in model.pieces if piece.sort is Sort.normal}
    merges = unions(ids, sorted(normal, key=lambda text: (-normal[text], ids[text])))
    unknown = model.pieces[model.roles["unk"]].text if "unk" in model.roles else None
    return models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def _normalizers(model: SentencePieceModel) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    space = SPACE if model.escapes_space else " "
    if model.charsmap:
        steps += _mapped(model.charsmap)
    if model.trims_space:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(space))
    if model.escapes_space:
        steps.append(normalizers.Replace(" ", SPACE))
    if model.trims_space:
        steps.append(normalizers.Replace(Regex(rf"{space}+\z"), ""))
    return steps


def _mapped(charsmap: bytes) -> list[normalizers.Normalizer]:
    """The model's own normaliser. The library applies it a grapheme or a character at a time, and so composes no Hangul of three parts."""
    mapped = normalizers.Precompiled(charsmap)
    composes = mapped.normalize_str("\u1100\u1161") == "\uac00" or mapped.normalize_str("e\u0301") == "\u00e9"
    return [normalizers.NFC(), mapped] if composes else [mapped]


def _apart(pieces: list[Piece]) -> pre_tokenizers.Split:
    """Cuts inside what spells a piece that no text makes: the library's lattice would find it in the text."""
    known = {piece.text for piece in pieces if piece.sort is Sort.normal}
    texts = [piece.text for piece in pieces if piece.sort in (Sort.control, Sort.unknown, Sort.byte) and len(piece.text) > 1]
    spelled = "|".join(f"{re.escape(text[:place])}(?={re.escape(text[place:])})" for text in texts for place in [_joint(text, known)])
    return pre_tokenizers.Split(Regex(spelled), "merged_with_previous")


def _joint(text: str, known: set[str]) -> int:
    """Where to cut it: not between two characters that are unknown, which are one unknown piece."""
    return next((place for place in range(1, len(text)) if text[place - 1] in known or text[place] in known), 1)
