"""What `llmkit tokenizer compare` tells, as tables: on the terminal and in the page of a plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llmkit.data.tokenizer_comparison import Compared, Comparison, OnText, Speed


class Table(NamedTuple):
    """A title, the heads of its columns, its rows."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def tables(compared: Comparison) -> list[Table]:
    """All texts together, then what differs by text, then habits."""
    rows = [figures(one) for one in compared.tokenizers]
    whole = Table("all texts together", list(rows[0]), [list(row.values()) for row in rows])
    by_text = [_by_text(compared, title, told) for title, told in BY_TEXT.items()]
    columns = [habits(one) for one in compared.tokenizers]
    names = [one.name for one in compared.tokenizers]
    return [whole, *by_text, Table("habits", ["habit", *names], [[what, *(column[what] for column in columns)] for what in columns[0]])]


def figures(one: Compared) -> dict[str, str]:
    """A tokenizer in one row."""
    return {
        "tokenizer": one.name,
        "ids": f"{one.vocab_size:,}",
        "bytes a token": f"{one.bytes_per_token:.3f}",
        "tokens a word": _number(one.fertility, ".3f"),
        "ids seen": f"{one.use.seen:,} ({one.use.seen / one.vocab_size:.0%})",
        "entropy (bits)": f"{one.use.entropy_bits:.2f}",
        "Rényi efficiency": f"{one.use.renyi_efficiency:.3f}",
        "encode MB/s": _speed(one.encode),
        "decode MB/s": _speed(one.decode),
    }


def habits(one: Compared) -> dict[str, str]:
    """What it does with digits, white space and hard strings."""
    trip, digits = one.round_trip, one.digits
    return {
        "1234567": "|".join(digits.pieces),
        "digits": digits.direction if digits.direction in ("single", "whole") else f"{digits.direction}, up to {digits.group}",
        "space": one.whitespace.space,
        **{f"{name} of indentation": str(cost) for name, cost in one.whitespace.indents.items()},
        "three empty lines": str(one.whitespace.newlines),
        "documents that come back exactly": f"{trip.exact:,} of {trip.documents:,}",
        "hard strings that do": f"{trip.hard_strings - len(trip.changed)} of {trip.hard_strings}",
        "special tokens": str(len(one.special_tokens)),
        "chat template": "yes" if one.chat_template else "no",
    }


def _by_text(compared: Comparison, title: str, told: Callable[[OnText], str]) -> Table:
    rows = [
        [f"{text.name} ({text.bytes:,} bytes)", *(told(one.texts[place]) for one in compared.tokenizers)]
        for place, text in enumerate(compared.texts)
    ]
    return Table(title, [title, *(one.name for one in compared.tokenizers)], rows)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _speed(speed: Speed) -> str:
    return f"{speed.median:.2f} ({speed.low:.2f}-{speed.high:.2f})"


BY_TEXT: dict[str, Callable[[OnText], str]] = {
    "bytes a token": lambda one: f"{one.bytes_per_token:.3f}",
    "tokens a word": lambda one: _number(one.fertility, ".3f"),
    "words that are one token": lambda one: _number(one.whole_words, ".1%"),
    "tokens": lambda one: f"{one.tokens:,}",
}
