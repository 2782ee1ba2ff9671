"""Elements of the page and its figures. What is written is escaped by the serializer, so that nobody can forget it."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child = Element | str | None
Attribute = str | float | None

INLINE = frozenset(
    {
        "a",
        "b",
        "bdi",
        "br",
        "code",
        "del",
        "em",
        "i",
        "ins",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "tspan",
        "text",
        "title",
        "desc",
        "td",
        "th",
    }
)
"""Elements after which a line break would be a space that is seen, or that serves nobody."""


def node(tag: str, *children: Child | Iterable[Child], **attributes: Attribute) -> Element:
    """An element.

    children    text, elements, lists of both; None is left out
    attributes  `class_` is `class`, `stroke_width` is `stroke-width`; None is left out; numbers are rounded to a tenth
    """
    element = Element(tag, {_spelled(key): _written(value) for key, value in attributes.items() if value is not None})
    for child in children:
        if child is None or isinstance(child, str | Element):
            _append(element, child)
            continue
        for one in child:
            _append(element, one)
    element.tail = None if tag in INLINE else "\n"
    return element


def serialized(element: Element) -> str:
    """An element as HTML."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


def _append(parent: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
        return
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + child
    else:
        parent.text = (parent.text or "") + child


def _spelled(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _written(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.1f}".removesuffix(".0")
