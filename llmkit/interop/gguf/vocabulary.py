"""A tokenizer as a GGUF file holds it: tokens, merges and roles, and by its name the way that llama.cpp cuts text before it merges.

llama.cpp has those ways as code, so that a file can only name one. Which it is, is read from the expressions of `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.interop.files import read_object
from llmkit.interop.gguf.reading import package
from llmkit.interop.tokens import WHOLE

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens, as the format numbers them."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = "digits one by one"

NFC = "NFC"
"""Composed characters (Qwen2): the one rewriting that llama.cpp leaves out of a tokenizer that it reads all the same."""

CUTS: dict[tuple[tuple[str, ...], bool], str] = {
    ((GPT2,), False): "gpt-2",
    ((DIGITS, GPT2), False): "smollm",
    ((LLAMA3,), False): "smaug-bpe",
    ((LLAMA3,), True): "llama-bpe",
    ((QWEN2,), False): "qwen2",
    ((GPT4O,), False): "gpt-4o",
}
"""How text is cut, and whether a cut piece that is a token is one whatever the merges -> llama.cpp's name of it."""


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level byte-pair tokenizer.

    tokens         by id, in GPT-2's spelling of bytes; as many as the model has rows
    kinds          of each token: normal, control (special), user-defined (added, but text), unused
    merges         pairs with a space between, the first to be merged first
    cut            llama.cpp's name of how text is cut
    roles          `bos`, `eos`, `eot` and so on -> id
    begins         whether a text begins with the token of `bos`
    chat_template  Jinja, where it has one
    """

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    cut: str
    roles: dict[str, int]
    begins: bool
    chat_template: str | None


def read_vocabulary(directory: Path, rows: int, generation: Mapping[str, Any], *, begins: bool) -> Vocabulary:
    """The tokenizer of a directory that has a `tokenizer.json`.

    rows        of the model's embedding: ids beyond the tokenizer's own are unused
    generation  the content of `generation_config.json`, of which the tokens that begin and end a text are read
    begins      whether a text begins with a token, where the tokenizer's own files do not say

    Raises `UserError` for a tokenizer that llama.cpp does not have: another model than byte-level BPE, no merges, or text cut in a way
    that llama.cpp has no name for.
    """
    document = read_object(directory / WHOLE)
    cut = _cut(document)
    own = package().SpecialVocab(directory, load_merges=True, n_vocab=rows)
    if not own.merges:
        raise _refused("it has no merges, and llama.cpp reads no byte-pair vocabulary without any")
    tokens, kinds = _tokens(document, rows)
    template, begin = own.chat_template, generation.get("bos_token_id")
    roles = ({} if begin is None else {"bos": begin}) | dict(own.special_token_ids) | _ends(generation)
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        merges=list(own.merges),
        cut=cut,
        roles=roles,
        begins="bos" in roles and own.add_special_token.get("bos", begins),
        chat_template=template if isinstance(template, str) else None,
    )


def _tokens(document: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    tokens, kinds = [f"[PAD{index}]" for index in range(rows)], [UNUSED] * rows
    added = {one["id"]: CONTROL if one.get("special") else USER_DEFINED for one in document.get("added_tokens", ())}
    names = dict(document["model"]["vocab"]) | {one["content"]: one["id"] for one in document.get("added_tokens", ())}
    for token, index in names.items():
        if index >= rows:
            raise _refused(f"it has the id {index}, and the model {rows} rows")
        tokens[index], kinds[index] = token, added.get(index, NORMAL)
    return tokens, kinds


def _ends(generation: Mapping[str, Any]) -> dict[str, int]:
    """The tokens that end a text as the run generates: the first is `eos`, others are `eot` and `eom`."""
    ends = generation.get("eos_token_id")
    named = zip(("eos", "eot", "eom"), ends if isinstance(ends, list) else [ends], strict=False)
    return {role: index for role, index in named if index is not None}


def _cut(document: dict[str, Any]) -> str:
    """llama.cpp's name of how this tokenizer cuts text."""
    model = document.get("model") or {}
    steps = _steps(document.get("pre_tokenizer"))
    if model.get("type") != "BPE" or model.get("byte_fallback") or not steps or steps[-1].get("type") != "ByteLevel":
        raise _refused(f"it is no byte-level byte-pair encoding but {model.get('type')!r}")
    if steps[-1].get("add_prefix_space"):
        raise _refused("it puts a space before each text, which llama.cpp's byte-pair encoding does not")
    normalizer = (document.get("normalizer") or {}).get("type", NFC)
    if normalizer != NFC:
        raise _refused(f"it rewrites text ({normalizer}) before it cuts it, which llama.cpp does not")
    found = tuple(one for step in steps if (one := _expression(step)) is not None)
    name = CUTS.get((found, bool(model.get("ignore_merges"))))
    if name is None:
        how = " then ".join(repr(one) for one in found) or "nothing"
        raise _refused(f"it cuts text by {how}, for which llama.cpp has no name that llmkit knows; it knows {', '.join(CUTS.values())}")
    return name


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return list(step["pretokenizers"]) if step.get("type") == "Sequence" else [step]


def _expression(step: dict[str, Any]) -> str | None:
    """By what a step cuts; None for one that only spells bytes."""
    kind = step.get("type")
    if kind == "ByteLevel":
        return GPT2 if step.get("use_regex", True) else None
    if kind == "Digits" and step.get("individual_digits"):
        return DIGITS
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return str(step["pattern"].get("Regex")).replace("{1,1}", "")
    return str(kind)


def _refused(reason: str) -> UserError:
    return UserError(f"the tokenizer cannot be written as GGUF: {reason}; write the model without it by --no-tokenizer")
