"""Reports as a parser reads them, and what is asked of every page and figure."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import NamedTuple
from xml.etree.ElementTree import Element

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf")
VOID = frozenset({"meta", "link", "br", "wbr", "img", "input", "hr"})


class Tag(NamedTuple):
    name: str
    attributes: dict[str, str]
    within: tuple[str, ...]


class Read(HTMLParser):
    """A page as a parser reads it: its tags, and its text by the tags that it is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, {key: value or "" for key, value in attrs}, tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "a tag is closed that is not the innermost"

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def inside(self, tag: str) -> list[str]:
        return [text for within, text in self.texts if tag in within]


OVERLAPS = """
(() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  const frame = document.documentElement.clientWidth, found = [];
  texts.forEach(([one, a], place) => {
    if (a.left < -1 || a.right > frame + 1) found.push(one + ' leaves the page');
    texts.slice(place + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3) found.push(one + ' on ' + other);
    });
  });
  return found;
}))()
"""

CONTRAST = """
(() => {
  const linear = part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).map(part => linear(part / 255));
    return .2126 * red + .7152 * green + .0722 * blue;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll('p, td, th, td span, dt, dd, figcaption, svg text')].map(part => {
    const style = getComputedStyle(part), ink = light(part instanceof SVGElement ? style.fill : style.color);
    return (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
  }));
})()
"""


def points(picture: Element) -> list[tuple[float, float]]:
    """All places that the drawing names; of relative steps, those that they lead to."""
    found = []
    for part in picture.iter():
        if part.tag in ("circle", "text"):
            x, y = ("cx", "cy") if part.tag == "circle" else ("x", "y")
            found.append((float(part.get(x, "nan")), float(part.get(y, "nan"))))
        if part.tag == "rect":
            x, y, width, height = (float(part.get(key, "nan")) for key in ("x", "y", "width", "height"))
            found += [(x, y), (x + width, y + height)]
            assert width >= 0 and height >= 0
        if part.tag == "path":
            found += walked(part.get("d", ""))
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in found)
    return found


def walked(commands: str) -> list[tuple[float, float]]:
    x = y = 0.0
    found = []
    for command, rest in re.findall(r"([MLHVlvm])([^MLHVlvmZ]*)", commands):
        numbers = [float(number) for number in NUMBER.findall(rest)]
        if command in "HVv":
            for number in numbers:
                x, y = (number, y) if command == "H" else (x, number) if command == "V" else (x, y + number)
                found.append((x, y))
            continue
        for right, down in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = (x + right, y + down) if command in "lm" else (right, down)
            found.append((x, y))
    return found
