"""Documents that the laws of filters and deduplicators are tried on: ordinary ones, and text that has broken cleaners before."""

from __future__ import annotations

from llmkit.core.interfaces.source import Document
from llmkit.testing.lawbook.tokenizer import NASTY

PROSE = (
    "The harbour was quiet when the first boats came in. Nobody had slept, and the nets were almost empty, but the talk on the quay was "
    "of the weather and of nothing else.\n\nLater that morning an old woman walked down with bread and a lantern. She asked each of the "
    "men whether he had seen the light on the point, and each of them said that he had not.\n\nIt is a fact that the light was never lit "
    "that year. The keeper had gone inland in March, with his books and two goats, and he did not come back to the sea."
)
CODE = "def area(width, height):\n    return width * height\n\n\nprint(area(3, 4))  # 12\n"
LISTING = "\n".join(f"- item {number}: see page {number * 7}..." for number in range(40))
REPEATED = "Buy now and save! Click here to subscribe. " * 60
LONG_WORD = "x" * 20_000
RIGHT_TO_LEFT = "\u202eمرحبا بالعالم، هذا نص من اليمين إلى اليسار.\u202c"  # noqa: RUF001

TEXTS = (PROSE, CODE, LISTING, REPEATED, LONG_WORD, RIGHT_TO_LEFT, *NASTY[1:], f"{PROSE}\n{LISTING}", PROSE.upper(), PROSE.replace(" ", ""))


def documents() -> list[Document]:
    """One a text, each with an id of its own."""
    return [Document(f"law-{number}", text, "law") for number, text in enumerate(TEXTS)]


def unrelated(count: int) -> list[Document]:
    """Documents of several paragraphs that have no word in common."""
    return [
        Document(f"law-{number}", "\n\n".join(" ".join(_words(number, part)) + "." for part in range(3)), "law") for number in range(count)
    ]


def _words(document: int, part: int) -> list[str]:
    return [f"w{document}p{part}n{word}" for word in range(40)]
