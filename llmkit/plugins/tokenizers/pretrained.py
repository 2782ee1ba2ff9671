"""A tokenizer that someone else trained, from its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llmkit.core.interfaces.tokenizer import END_OF_TEXT
from llmkit.plugins.tokenizers.components import PretrainedParams
from llmkit.plugins.tokenizers.fast import FastTokenizer, backend_from_json
from llmkit.plugins.tokenizers.files import Files, find, read_json, read_merges

ROLES = ("eos", "bos", "pad")


class Pretrained(FastTokenizer):
    """Reads `tokenizer.json`, or GPT-2's pair of vocabulary and merges. Its special tokens and their roles are its own."""

    @classmethod
    def train(cls, params: PretrainedParams, texts: Iterable[str]) -> Self:
        return cls._from(params, find(params.path))

    @classmethod
    def load(cls, params: PretrainedParams, directory: Path) -> Self:
        return cls._from(params, find(directory))

    @classmethod
    def _from(cls, params: PretrainedParams, files: Files) -> Self:
        backend = _from_pair(files.vocabulary, files.merges) if files.vocabulary and files.merges else backend_from_json(_whole(files))
        config = {**_config(files.directory, backend)}
        config |= {f"{role}_token": getattr(params, role) for role in ROLES if getattr(params, role) is not None}
        return cls(params, backend, config)


def _whole(files: Files) -> Path:
    assert files.whole is not None
    return files.whole


def _from_pair(vocabulary: Path, merges: Path) -> Tokenizer:
    """GPT-2's form. What is neither a byte nor a merge can be made by no text: those are its special tokens."""
    tokens: dict[str, int] = read_json(vocabulary)
    pairs = read_merges(merges)
    backend = Tokenizer(models.BPE(vocab=tokens, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    reachable = {*pre_tokenizers.ByteLevel.alphabet(), *(left + right for left, right in pairs)}
    specials = sorted(set(tokens) - reachable, key=tokens.__getitem__)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return backend


def _config(directory: Path, backend: Tokenizer) -> dict[str, Any]:
    """`tokenizer_config.json`, with the roles from wherever the files around it name them."""
    config = _optional(directory / "tokenizer_config.json")
    named = _optional(directory / "special_tokens_map.json")
    numbered = _optional(directory / "config.json") | _optional(directory / "generation_config.json")
    found = {role: _text(config.get(f"{role}_token")) or _text(named.get(f"{role}_token")) for role in ROLES}
    for role in ROLES:
        found[role] = found[role] or _by_id(backend, numbered.get(f"{role}_token_id"))
    found["eos"] = found["eos"] or _evident_end(backend)
    found["bos"] = _added_first(backend) or found["bos"]
    return config | {f"{role}_token": token for role, token in found.items() if token}


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _text(token: Any) -> str | None:
    """A token as configurations write it: a string, or a mapping with its content."""
    return token.get("content") if isinstance(token, dict) else token


def _by_id(backend: Tokenizer, index: Any) -> str | None:
    first = index[0] if isinstance(index, list) and index else index
    return backend.id_to_token(first) if isinstance(first, int) else None


def _evident_end(backend: Tokenizer) -> str | None:
    specials = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
    if END_OF_TEXT in specials:
        return END_OF_TEXT
    return specials[0] if len(specials) == 1 else None


def _added_first(backend: Tokenizer) -> str | None:
    """The token that the tokenizer's own post-processor puts before a text."""
    with_specials = backend.encode("a").tokens
    without = backend.encode("a", add_special_tokens=False).tokens
    return str(with_specials[0]) if len(with_specials) > len(without) and with_specials[0] != without[0] else None
