"""What is wrong with a spec: every problem at once, each with its file, line, column and address, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from llmkit.core.component import Params
from llmkit.core.errors import UserError
from llmkit.core.slot import models_at

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from llmkit.core.catalog import Catalog
    from llmkit.core.document import Node


@dataclass(frozen=True)
class Place:
    """Where something was written.

    file    a path, `recipe:NAME`, `--set ADDRESS=VALUE`, or `<mapping>` for a spec that came as Python
    line    from 1; None where there are no lines
    column  from 1
    """

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, its address in the spec, and what to do."""

    place: Place
    address: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, [str(self.place), self.address, self.message]))

    def row(self) -> dict[str, Any]:
        """As `spec check --json` prints it."""
        place = self.place
        return {"file": place.file, "line": place.line, "column": place.column, "address": self.address, "message": self.message}


class SpecError(UserError):
    """A spec that cannot be used, with all its problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or all that is known."""
    names = sorted(map(str, known))
    close = get_close_matches(wrong, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing can be given here"


def problems_of(error: ValidationError, root: type[BaseModel], document: Node, catalog: Catalog) -> list[Problem]:
    """A validation error of a composed document, as problems where the document was written."""
    found: dict[tuple[str, Place], list[str]] = {}
    for detail in _relevant(error.errors(include_url=False), document):
        address, place = _where(detail, document)
        messages = found.setdefault((address, place), [])
        message = _message(detail, root, document, catalog)
        if message not in messages:
            messages.append(message)
    return [Problem(place, address, _joined(messages)) for (address, place), messages in found.items()]


def truths_for_numbers(validated: Any, document: Node) -> Iterator[Problem]:
    """Every `true` and `false` that pydantic took for the number 1 or 0."""
    for address, node in document.leaves():
        if not isinstance(node.value, bool):
            continue
        value = validated
        for part in address.split("."):
            value = value[int(part)] if isinstance(value, list) else value.get(part)
        if not isinstance(value, bool):
            yield Problem(node.place, address, f"expected a number, got {str(node.value).lower()}; write the number")


def _relevant(details: Sequence[ErrorDetails], document: Node) -> Iterator[ErrorDetails]:
    """Without the branches of a union that the value was never meant for: where another branch failed deeper, that one counts."""
    addresses = [_address(detail, document) for detail in details]
    for detail in details:
        parts, _ = document.walk(detail["loc"])
        whole_branch = detail["type"] != "missing" and len(detail["loc"]) > len(parts)
        if whole_branch and any(len(other) > len(parts) and other[: len(parts)] == parts for other in addresses):
            continue
        yield detail


def _address(detail: ErrorDetails, document: Node) -> list[str]:
    parts, _ = document.walk(detail["loc"])
    return [*parts, str(detail["loc"][-1])] if detail["type"] == "missing" else parts


def _where(detail: ErrorDetails, document: Node) -> tuple[str, Place]:
    parts, node = document.walk(detail["loc"])
    address = ".".join(_address(detail, document))
    match detail["type"]:
        case "missing":
            return address, document.owner(parts)
        case "extra_forbidden":
            return address, node.key or node.place
        case "slot_unknown" | "union_tag_invalid":
            return address, (node.child("type") or node).place
        case _:
            return address, node.place if node.is_scalar else node.key or node.place


def _message(detail: ErrorDetails, root: type[BaseModel], document: Node, catalog: Catalog) -> str:
    parts, node = document.walk(detail["loc"])
    if detail["type"] == "missing":
        name = str(detail["loc"][-1])
        return f"is missing{_described(models_at(root, parts, document, catalog), name)}; add `{name}:` here"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {parts[-1]!r}; {_meant(parts, root, document, catalog)}"
    expected = _expected(detail)
    if expected is None:
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    about = _described(models_at(root, parts[:-1], document, catalog), parts[-1]) if parts else ""
    return f"{expected}, got {_shown(node)}{about}"


def _meant(parts: Sequence[str], root: type[BaseModel], document: Node, catalog: Catalog) -> str:
    """What an unknown key was meant to be: one of this place, or the same word where it belongs."""
    wrong = parts[-1]
    models = models_at(root, parts[:-1], document, catalog)
    known = {name for model in models for name in model.model_fields}
    # What a component does not take, another component's parameter of the same name says nothing about.
    if not get_close_matches(wrong, known, n=1) and not any(issubclass(model, Params) for model in models):
        homes = [
            address
            for address in document.addresses()
            if any(wrong in model.model_fields for model in models_at(root, address.split(".") if address else [], document, catalog))
        ]
        if homes:
            return f"it belongs under {' or '.join(map(repr, homes[:2])) if homes[0] else 'the top of the spec'}"
    return suggestion(wrong, known)


def _described(models: Iterable[type[BaseModel]], name: str) -> str:
    for model in models:
        field = model.model_fields.get(name)
        if field is not None and field.description:
            return f" ({name}: {field.description})"
    return ""


def _expected(detail: ErrorDetails) -> str | None:
    """What should have stood there; None where the message says all by itself."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        hint = get_close_matches(str(detail["input"]), [word.strip("'") for word in _words(context["expected"])], n=1)
        return f"expected {context['expected']}" + (f" (did you mean {hint[0]!r}?)" if hint else "")
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}"
    if kind.startswith("union_tag"):
        tags = context.get("expected_tags")
        return f"expected a mapping with a `type` of {tags}" if tags else "expected a mapping with a `type`"
    if kind in ("too_short", "string_too_short"):
        return f"needs at least {context['min_length']}"
    if kind in ("too_long", "string_too_long"):
        return f"takes at most {context['max_length']}"
    if kind == "value_error" or kind.startswith("slot_"):
        return None
    for start, words in _TYPES.items():
        if kind.startswith(start):
            return f"expected {words}"
    message = detail["msg"]
    return message[0].lower() + message[1:]


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _shown(node: Node) -> str:
    if node.is_scalar:
        words = {None: "nothing", True: "true", False: "false"}
        return words[node.value] if node.value is None or isinstance(node.value, bool) else repr(node.value)
    return "a mapping" if isinstance(node.value, Mapping) else "a list"


def _joined(messages: Sequence[str]) -> str:
    """Several branches of one union speak as one: `expected true or false, or expected 'qkv', got 3`."""
    if len(messages) == 1:
        return messages[0]
    heads = [message.split(", got ")[0] for message in messages[:-1]]
    return ", or ".join([*heads, messages[-1]])


_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_TYPES = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_": "text",
    "list_": "a list",
    "tuple_": "a list",
    "dict_": "a mapping",
    "model_": "a mapping",
    "none_": "nothing",
}
