"""YAML text to a tree in which every value, key and item knows where it was written.

YAML 1.2's core schema, so that `1e-3` is a number and `no` is text; whole numbers may have underscores. Duplicate keys are
refused. Anchors, aliases and merge keys (`<<`) work. There are no other tags, so that reading a file runs no code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import yaml

from llmkit.core.problems import Place, Problem, SpecError

Scalar: TypeAlias = str | int | float | bool | None
Parts: TypeAlias = Sequence[str | int]

LARGEST = 100_000
"""Values in a document with its aliases written out; a file of a few lines can stand for billions."""


@dataclass(frozen=True)
class Node:
    """A value of a document.

    value  a scalar, a dict of nodes, or a list of nodes
    place  where the value stands
    key    where its key stands, in a mapping
    bare   a mapping that nobody wrote: the address of an override passes through it
    """

    value: Any
    place: Place
    key: Place | None = None
    bare: bool = False

    @property
    def is_scalar(self) -> bool:
        """Neither a mapping nor a list."""
        return not isinstance(self.value, dict | list)

    def child(self, part: str | int) -> Node | None:
        """The value under this key or index."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and str(part).isdecimal() and int(part) < len(self.value):
            return self.value[int(part)]  # type: ignore[no-any-return]
        return None

    def walk(self, loc: Parts) -> tuple[list[str], Node]:
        """The deepest node on the way, and its address. Parts that lead nowhere (pydantic names the branches of a union) are skipped."""
        node, parts = self, []
        for part in loc:
            child = node.child(part)
            if child is not None:
                node = child
                parts.append(str(part))
        return parts, node

    def owner(self, parts: Parts) -> Place:
        """Where the user wrote the mapping at this address, or the nearest one around it that the user wrote."""
        places = [self.place]
        node = self
        for part in parts:
            child = node.child(part)
            if child is None:
                break
            node = child
            places.append(node.key or node.place)
        return next((place for place in reversed(places) if place.file != DEFAULTS), self.place)

    def place_of(self, address: str) -> Place:
        """Where the value at an address was written; where it is a default, the mapping around it that the user wrote."""
        parts = address.split(".")
        found, node = self.walk(parts)
        if len(found) < len(parts) or node.place.file == DEFAULTS:
            return self.owner(parts)
        return node.place if node.is_scalar else node.key or node.place

    def written_at(self, address: str) -> Place | None:
        """The layer that set the value at an address; None where nobody wrote it. A bare name stands for its `type`."""
        parts = address.split(".")
        found, node = self.walk(parts)
        bare_name = parts[-1:] == ["type"] and found == parts[:-1] and isinstance(node.value, str)
        return node.place if found == parts or bare_name else None

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def addresses(self, address: str = "") -> Iterator[str]:
        """The address of every value, mappings and lists included, the outer ones first."""
        yield address
        children = self.value.items() if isinstance(self.value, dict) else enumerate(self.value) if isinstance(self.value, list) else ()
        for part, node in children:
            yield from node.addresses(f"{address}.{part}" if address else str(part))

    def leaves(self, address: str = "") -> Iterator[tuple[str, Node]]:
        """Every scalar, empty mapping and list of scalars, with its address."""
        if isinstance(self.value, dict) and self.value:
            for key, node in self.value.items():
                yield from node.leaves(f"{address}.{key}" if address else key)
        elif isinstance(self.value, list) and any(not node.is_scalar for node in self.value):
            for index, node in enumerate(self.value):
                yield from node.leaves(f"{address}.{index}")
        else:
            yield address, self


DEFAULTS = "recipe:defaults"
"""The lowest layer, as places name it."""


def read_yaml(text: str, file: str) -> Node:
    """A document; an empty one is null. `SpecError` with every duplicate key, or with the place where the syntax breaks."""
    return _Reader(file).read(text)


def read_value(text: str, file: str) -> Node:
    """A value from the command line: YAML whose every part stands at the place `file`, without lines."""
    return located(_Reader(file, lines=False).read(text).plain(), Place(file))


def located(value: Any, place: Place, key: Place | None = None) -> Node:
    """Python's mappings, lists and scalars as a document that stands at one place."""
    if isinstance(value, Mapping):
        return Node({str(name): located(item, place, place) for name, item in value.items()}, place, key)
    if isinstance(value, list | tuple):
        return Node([located(item, place) for item in value], place, key)
    return Node(value, place, key)


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
INT = re.compile(r"^(?:[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+)$")
FLOAT = re.compile(r"^(?:[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")

_TAG = "tag:yaml.org,2002:"
for _name, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


class _Reader:
    """One reading of one text."""

    def __init__(self, file: str, *, lines: bool = True) -> None:
        self.file = file
        self.lines = lines
        self.problems: list[Problem] = []
        self.count = 0
        self.open: list[int] = []

    def read(self, text: str) -> Node:
        try:
            root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise SpecError([self._syntax(error)]) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Place(self.file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
            raise SpecError([Problem(place, "", f"character {chr(int(error.character))!r} is not allowed in YAML; remove it")]) from None
        node = self._node(root, "") if root is not None else Node(None, Place(self.file, 1, 1))
        if self.problems:
            raise SpecError(self.problems)
        return node

    def _syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        problem, begun = error.problem or "this is no YAML", error.context_mark
        if "'\\t'" in problem:
            return Problem(self._place(error.problem_mark), "", "a tab cannot indent in YAML; use spaces")
        if begun is not None and problem == "could not find expected ':'":
            return Problem(self._place(begun), "", "not valid YAML: a key needs a colon and a space after it; add them here")
        context = f" ({error.context}, begun at {self._place(begun)})" if error.context and begun is not None else ""
        remedy = "check indentation, colons, quotes and brackets just before this place"
        return Problem(self._place(error.problem_mark or begun), "", f"not valid YAML: {problem}{context}; {remedy}")

    def _place(self, mark: Any) -> Place:
        if not self.lines:
            return Place(self.file)
        return Place(self.file, 1, 1) if mark is None else Place(self.file, mark.line + 1, mark.column + 1)

    def _node(self, node: yaml.Node, address: str) -> Node:
        place = self._place(node.start_mark)
        self.count += 1
        if self.count > LARGEST or id(node) in self.open:
            raise SpecError([Problem(place, address, "the aliases of this document never end, or stand for too much; write it out")])
        self.open.append(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return Node(self._mapping(node, address), place)
            if isinstance(node, yaml.SequenceNode):
                return Node([self._node(item, f"{address}.{index}") for index, item in enumerate(node.value)], place)
            return Node(self._scalar(node, place, address), place)
        finally:
            self.open.pop()

    def _mapping(self, mapping: yaml.MappingNode, address: str) -> dict[str, Node]:
        written: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in mapping.value:
            place = self._place(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(place, address, "a key must be a word, not a mapping or a list"))
                continue
            name = str(key.value)
            inner = f"{address}.{name}" if address else name
            if name == "<<" and key.style is None:
                merged |= {k: v for k, v in self._merge_key(value, address).items() if k not in merged}
            elif name in written:
                first = written[name].key
                self.problems.append(Problem(place, inner, f"key {name!r} is given twice, first at {first}; remove one of them"))
            else:
                written[name] = replace(self._node(value, inner), key=place)
        return {**{name: node for name, node in merged.items() if name not in written}, **written}

    def _merge_key(self, value: yaml.Node, address: str) -> dict[str, Node]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        merged: dict[str, Node] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self.problems.append(Problem(self._place(value.start_mark), address, "`<<` takes a mapping, or a list of them, by alias"))
                continue
            merged = {**self._mapping(source, address), **merged}
        return merged

    def _scalar(self, node: yaml.Node, place: Place, address: str) -> Scalar:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        try:
            return _SCALARS[kind](text)
        except KeyError:
            self.problems.append(Problem(place, address, f"tag {node.tag!r} is not supported; remove it"))
        except ValueError:
            self.problems.append(Problem(place, address, f"{text!r} is no {kind}; remove its tag"))
        return None


def _boolean(text: str) -> bool:
    if not BOOL.match(text):
        raise ValueError(text)
    return text.lower() == "true"


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits[:2] in ("0o", "0x") else int(digits)


def _floating(text: str) -> float:
    digits = text.replace("_", "").lower()
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", digits))


_SCALARS: Mapping[str, Callable[[str], Scalar]] = {
    "str": str,
    "null": lambda text: None,
    "bool": _boolean,
    "int": _integer,
    "float": _floating,
}
