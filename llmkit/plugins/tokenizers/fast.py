"""A tokenizer whose work is done by the `tokenizers` library, and the rule that plain text never makes a special token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import END_OF_TEXT, Tokenizer
from llmkit.plugins.tokenizers.files import read_json
from llmkit.plugins.tokenizers.quick import Quick, quick

Span = tuple[int, int]
LONE_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""Half a UTF-16 pair is no character: it has no UTF-8. It becomes U+FFFD, one for one, so that spans stay true."""

MANY = 1 << 17
"""Characters from which it is worth to look for a quicker way to the same ids."""

COMPARED = 1 << 12
"""Of each batch that went the quicker way the shortest text is compared, if it has no more characters."""


class FastTokenizer(Tokenizer):
    """Wraps a `tokenizers.Tokenizer`.

    The library makes special tokens out of text that spells them, unless `encode_special_tokens` is set, which leaves them to
    the model. A byte-pair model cannot make one then; a unigram or word model that has them in its vocabulary can. What still
    comes out special is therefore encoded again, cut in two inside the offending characters.

    config  `tokenizer_config.json` as a mapping: `eos_token`, `bos_token`, `pad_token` and `chat_template` are read from it
    """

    def __init__(self, params: Any, backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
        self.params = params
        self.config = config
        # A file may ask for both; either would change the ids of a long text without a word.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._plain = backend
        self._forbidden = frozenset(self.special_tokens.values()) - {self._unknown_id}

    @cached_property
    def _marked(self) -> tokenizers.Tokenizer:
        """The same tokenizer, for text in which special tokens are meant. The switch is not saved, so a copy has it off."""
        return tokenizers.Tokenizer.from_str(self._plain.to_str())

    @cached_property
    def _unknown_id(self) -> int | None:
        model = json.loads(self._plain.to_str())["model"]
        if isinstance(model.get("unk_id"), int):
            return int(model["unk_id"])
        return None if model.get("unk_token") is None else self._plain.token_to_id(model["unk_token"])

    @cached_property
    def vocab_size(self) -> int:
        return 1 + max(self._plain.get_vocab(with_added_tokens=True).values())

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        added = self._plain.get_added_tokens_decoder()
        return {added[index].content: index for index in sorted(added) if added[index].special}

    @property
    def eos_id(self) -> int:
        return self._role("eos")

    @property
    def pad_id(self) -> int:
        return self._role("pad") if self.config.get("pad_token") else self.eos_id

    @property
    def bos_id(self) -> int:
        return self._role("bos") if self.config.get("bos_token") else self.eos_id

    @property
    def roles(self) -> dict[str, str]:
        named = {role: content_of(token) for role, token in self.config.items() if role.endswith("_token")}
        return {role: token for role, token in named.items() if token is not None}

    @property
    def chat_template(self) -> str | None:
        found = self.config.get("chat_template")
        if isinstance(found, list):
            # Several by name; transformers takes this one unless told otherwise.
            found = next((one["template"] for one in found if one["name"] == "default"), None)
        return found

    @classmethod
    def load(cls, params: Any, directory: Path) -> Self:
        return cls(params, backend_from_json(directory / "tokenizer.json"), read_json(directory / "tokenizer_config.json"))

    def _role(self, role: str) -> int:
        token = self.config.get(f"{role}_token") or END_OF_TEXT
        index = self._plain.token_to_id(token)
        if index is None:
            names = ", ".join(self.special_tokens) or "none"
            raise UserError(f"this tokenizer has no {role} token {token!r}; say which it is, as `{role}: ...`. Its special tokens: {names}")
        return index

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        return self.encode_batch([text], specials=specials)[0]

    def encode_batch(self, texts: Sequence[str], *, specials: bool = False) -> list[list[int]]:
        backend = self._marked if specials else self._plain
        try:
            encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            texts = [text.translate(LONE_SURROGATES) for text in texts]
            encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        if specials:
            return rows
        return [ids if self._forbidden.isdisjoint(ids) else self._spans(text)[0] for ids, text in zip(rows, texts, strict=True)]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        way = self._quick if sum(map(len, texts)) >= MANY else None
        if way is None:
            return super().encode_arrays(texts)
        try:
            rows = [way.encode(text) for text in texts]
        except TypeError:
            texts = [text.translate(LONE_SURROGATES) for text in texts]
            rows = [way.encode(text) for text in texts]
        for index, ids in enumerate(rows):
            if self._forbidden_ids[ids].any():
                rows[index] = np.asarray(self._spans(texts[index])[0], np.uint32)
        self._compare(texts, rows)
        return rows

    @cached_property
    def _quick(self) -> Quick | None:
        return quick(self._plain)

    @cached_property
    def _forbidden_ids(self) -> NDArray[np.bool_]:
        """(vocab_size,) whether plain text may not have this id."""
        return np.isin(np.arange(self.vocab_size), list(self._forbidden))

    def _compare(self, texts: Sequence[str], rows: Sequence[NDArray[np.uint32]]) -> None:
        shortest = min(range(len(texts)), key=lambda index: len(texts[index]))
        text = texts[shortest]
        if len(text) <= COMPARED and self.encode(text) != rows[shortest].tolist():
            raise UserError(
                f"gigatoken gives other ids than tokenizers for {text[:80]!r}: these tokens would be wrong; uninstall it "
                "(pip uninstall gigatoken), then run the same command again"
            )

    def encode_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        return self._spans(text.translate(LONE_SURROGATES))

    def _spans(self, text: str) -> tuple[list[int], list[Span]]:
        encoding = self._plain.encode(text, add_special_tokens=False)
        ids, spans = encoding.ids, encoding.offsets
        bad = [span for index, span in zip(ids, spans, strict=True) if index in self._forbidden]
        if not bad:
            return ids, spans
        if len(text) < 2:
            return [], []
        return self._pieces(text, sorted({0, len(text), *chain.from_iterable((start, start + 1) for start, _ in bad)}))

    def _pieces(self, text: str, cuts: list[int]) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        spans: list[Span] = []
        for start, end in pairwise(cuts):
            piece_ids, piece_spans = self._spans(text[start:end])
            ids += piece_ids
            spans += [(start + a, start + b) for a, b in piece_spans]
        return ids, spans

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        if skip_specials:
            return str(self._plain.decode(list(ids), skip_special_tokens=True))
        return "".join(self._runs(ids))

    def _runs(self, ids: Sequence[int]) -> list[str]:
        # A byte-level decoder would read the letters of a special token as bytes, so each stands for itself.
        names = {index: token for token, index in self.special_tokens.items()}
        texts: list[str] = []
        run: list[int] = []
        for index in ids:
            if index not in names:
                run.append(index)
                continue
            texts += [self._plain.decode(run), names[index]]
            run = []
        return [*texts, self._plain.decode(run)]

    def save(self, directory: Path) -> None:
        (directory / "tokenizer.json").write_text(self._plain.to_str(pretty=True) + "\n", encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self.config}
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def fingerprint(self) -> str:
        roles = {role: self.config.get(f"{role}_token") for role in ("eos", "bos", "pad")}
        return hashlib.sha256((self._plain.to_str() + json.dumps(roles)).encode()).hexdigest()[:16]


def content_of(token: Any) -> str | None:
    """A token as configurations write it: a string, or a mapping with its content. None for anything else."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def backend_from_json(path: Path) -> tokenizers.Tokenizer:
    """The library's tokenizer in a `tokenizer.json`; `UserError` naming the file where it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read tokenizer {str(path)!r}: {error}") from error
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{str(path)!r} is no tokenizer.json that tokenizers {tokenizers.__version__} reads: {error}") from error
