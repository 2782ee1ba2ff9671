"""A tokenizer that someone else trained, from its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import END_OF_TEXT
from llmkit.plugins.tokenizers.components import PretrainedParams
from llmkit.plugins.tokenizers.fast import FastTokenizer, backend_from_json, content_of
from llmkit.plugins.tokenizers.files import Files, Form, find, read_json
from llmkit.plugins.tokenizers.foreign import from_pair, from_ranks, from_sentence_piece

ROLES = ("eos", "bos", "pad")
STOPS = "stop_token_ids"
TEMPLATE = "chat_template.jinja"


class Pretrained(FastTokenizer):
    """Reads `tokenizer.json`, GPT-2's pair of vocabulary and merges, tiktoken's ranks, or a SentencePiece model (unigram or bpe).

    Its special tokens and their roles are its own, and its ids those of the library that made the file; a file for which that cannot
    be kept is refused. Two things are left: of cuts that are equally likely to the last digit of a float, a unigram model may take another
    than SentencePiece; and where it normalises, combining marks in no canonical order, and CR LF, may come out otherwise.
    Saved, each becomes a `tokenizer.json`.
    """

    @property
    def stop_ids(self) -> frozenset[int]:
        """The end of text and of a turn, and what else the model's own configuration ends a text with."""
        return super().stop_ids | frozenset(self.config.get(STOPS, ()))

    @classmethod
    def train(cls, params: PretrainedParams, texts: Iterable[str]) -> Self:
        files = find(params.path)
        if files.form is not Form.tiktoken and (params.pattern or params.special_tokens):
            raise UserError(f"{params.path!r} is {files.form.value} and says itself how text is cut; leave out pattern and special_tokens")
        return cls._from(params, files)

    @classmethod
    def load(cls, params: PretrainedParams, directory: Path) -> Self:
        return cls._from(params, find(directory))

    @classmethod
    def _from(cls, params: PretrainedParams, files: Files) -> Self:
        backend, named = _read(params, files)
        config = named | _config(files.directory, backend)
        config |= {f"{role}_token": getattr(params, role) for role in ROLES if getattr(params, role) is not None}
        return cls(params, backend, config)


def _read(params: PretrainedParams, files: Files) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer in the library's form, and what its own file says of roles."""
    if files.form is Form.sentence_piece:
        return from_sentence_piece(files.file)
    if files.form is Form.tiktoken:
        return from_ranks(files.file, params.needed_pattern, params.special_tokens), {}
    if files.merges is not None:
        return from_pair(files.file, files.merges), {}
    return backend_from_json(files.file), {}


def _config(directory: Path, backend: Tokenizer) -> dict[str, Any]:
    """`tokenizer_config.json`, with the roles from wherever the files around it name them."""
    config = _optional(directory / "tokenizer_config.json")
    named = _optional(directory / "special_tokens_map.json")
    numbered = _optional(directory / "config.json") | _optional(directory / "generation_config.json")
    found = {role: content_of(config.get(f"{role}_token")) or content_of(named.get(f"{role}_token")) for role in ROLES}
    for role in ROLES:
        found[role] = found[role] or _by_id(backend, numbered.get(f"{role}_token_id"))
    found["eos"] = found["eos"] or _evident_end(backend)
    found["bos"] = _added_first(backend) or found["bos"]
    named_ends = numbered.get("eos_token_id")
    stops = named_ends if isinstance(named_ends, list) else [named_ends] if isinstance(named_ends, int) else config.get(STOPS, [])
    template = directory / TEMPLATE
    written = {"chat_template": template.read_text(encoding="utf-8")} if template.is_file() else {}
    return config | written | {f"{role}_token": token for role, token in found.items() if token} | ({STOPS: stops} if stops else {})


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


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
