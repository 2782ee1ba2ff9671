"""Personal data: addresses and numbers that lead to a person, replaced by a tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network, ip_address

from llmkit.core.interfaces.filter import Filter
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.learned_components import PiiParams

Span = tuple[int, int]
Find = Callable[[str], Iterator[Span]]


class Pii(Filter):
    """Every address or number that is found becomes the tag of its kind; all else stays, character for character.

        email   name@domain.tld, with a top-level domain of letters
        card    13 to 19 digits, bare or in the groups of a card, with a brand's prefix and length and Luhn's check digit
        ip      version 4 and 6, only where the address is public: 192.168.0.1, 127.0.0.1 and 2001:db8::1 lead to nobody
        phone   +CC... and, in groups, 00CC... with an assigned country code (ITU-T E.164); (NPA) NXX-XXXX, NPA-NXX-XXXX and
                NPA.NXX.XXXX; 7 to 15 digits behind `tel`, `phone`, `mobile`, `fax` and the like

    They are looked for in this order, so that the digits of a card are no phone number. What is taken away is rather too little than
    too much: a bare number of ten digits stays, and so do four small numbers behind the word `version` or `section`.
    """

    params: PiiParams

    def __init__(self, params: PiiParams) -> None:
        super().__init__(params)
        tags: dict[Find, str | None] = {emails: params.email, cards: params.card, addresses: params.ip, phones: params.phone}
        self._tags = [(find, tag) for find, tag in tags.items() if tag is not None]

    def apply(self, document: Document) -> Document:
        text = document.text
        for find, tag in self._tags:
            text = _replaced(text, find(text), tag)
        return document if text == document.text else replace(document, text=text)


def _replaced(text: str, spans: Iterator[Span], tag: str) -> str:
    pieces: list[str] = []
    end = 0
    for start, stop in spans:
        pieces += [text[end:start], tag]
        end = stop
    return "".join(pieces) + text[end:] if pieces else text


def _apart(spans: list[Span]) -> Iterator[Span]:
    """In their order, none that overlaps an earlier one."""
    end = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end:
            yield start, stop
            end = stop


_LATIN = "A-Za-z0-9\u00c0-\u024f"
_DOMAIN = re.compile(
    rf"(?:[{_LATIN}](?:[{_LATIN}-]{{0,61}}[{_LATIN}])?\.){{1,8}}(?:xn--[A-Za-z0-9-]{{1,59}}|[A-Za-z]{{2,24}})(?![{_LATIN}@])"
)
_LOCAL = re.compile(rf"[{_LATIN}_][{_LATIN}.+_'%-]{{0,63}}(?<![.])@")
_LOCAL_MOST = 64


def emails(text: str) -> Iterator[Span]:
    """Addresses of electronic mail. From each @ on and at most 64 characters back, so that no text makes it slow."""
    end = at = 0
    while (at := text.find("@", at)) >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL.search(text, max(end, at - _LOCAL_MOST), at + 1) if domain else None
        at += 1
        if domain and local:
            end = at = domain.end()
            yield local.start(), end


# This and the next patterns begin with the character that they look for, and look behind it afterwards: text is scanned several times
# as fast as with the look behind at first.
_CARD = re.compile(
    r"\d(?<![\w+]\d)(?<!\d[.,:/-]\d)(?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,4}|\d{3}([ -])\d{6}\2\d{4,5})(?!\w)(?![.,]\d)", re.ASCII
)
_MORE = re.compile(r"[ -]\d{1,3}(?!\w)", re.ASCII)
_BRANDS = (
    ("4", "4", {13, 16, 19}),  # Visa
    ("51", "55", {16}),  # Mastercard
    ("2221", "2720", {16}),
    ("34", "34", {15}),  # American Express
    ("37", "37", {15}),
    ("6011", "6011", {16, 17, 18, 19}),  # Discover
    ("644", "659", {16, 17, 18, 19}),
    ("62", "62", {16, 17, 18, 19}),  # UnionPay
    ("81", "81", {16, 17, 18, 19}),
    ("3528", "3589", {16, 17, 18, 19}),  # JCB
    ("300", "305", {14, 16, 17, 18, 19}),  # Diners Club
    ("3095", "3095", {14, 16, 17, 18, 19}),
    ("36", "36", {14, 16, 17, 18, 19}),
    ("38", "39", {14, 16, 17, 18, 19}),
    ("5018", "5018", set(range(13, 20))),  # Maestro
    ("5020", "5020", set(range(13, 20))),
    ("5038", "5038", set(range(13, 20))),
    ("5893", "5893", set(range(13, 20))),
    ("6304", "6304", set(range(13, 20))),
    ("6759", "6763", set(range(13, 20))),
)
"""First and last prefix of a range, and how many digits its numbers have (ISO/IEC 7812; https://en.wikipedia.org/wiki/Payment_card_number)."""


def cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards: bare, or in groups of 4, of 4-6-5 or of 4-6-4 digits that one character separates."""
    place = 0
    while found := _CARD.search(text, place):
        more = _MORE.match(text, found.end()) if found[1] else None
        ends = [more.end()] if more and text[more.start()] == found[1] else []
        end = next((end for end in [*ends, found.end()] if is_card(_digits(text[found.start() : end]))), None)
        place = end or found.start() + 1
        if end:
            yield found.start(), end


def is_card(digits: str) -> bool:
    """Whether a brand has such numbers, and the check digit is right (Luhn, US patent 2950048)."""
    known = any(first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in _BRANDS)
    return known and luhn(digits)


def luhn(digits: str) -> bool:
    """sum of the digits, every second one from the right doubled and cast out by nines, is a multiple of 10."""
    total = sum(int(digit) for digit in digits[::-2])
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0


_V4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w)(?!\.\d)", re.ASCII)
_V6 = re.compile(
    r"[23:](?<![\w:.].)(?:(?<!:)[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,35}|(?<=:):[Ff]{4}:\d{1,3}(?:\.\d{1,3}){3})(?!\w)", re.ASCII | re.DOTALL
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_COLON = re.compile(r"[^:]:$")
_NUMBERED = re.compile(r"(?:\b(?:v|ver|version|release|kernel|section|sec|chapter)|[=<>~!]=|[§~^])[.:-]?\s*$", re.IGNORECASE)
_UNICAST = IPv6Network("2000::/3")


def addresses(text: str) -> Iterator[Span]:
    """Public IP addresses, in their order, that no word or sign before them says are the number of a version or a section."""
    found = [(match.start(), match.end() - bool(_COLON.search(match[0]))) for match in _V6.finditer(text)] if _COLONS.search(text) else []
    found += [match.span() for match in _V4.finditer(text) if not _NUMBERED.search(text, max(0, match.start() - 12), match.start())]
    yield from _apart([span for span in found if _is_public(text[slice(*span)])])


def _is_public(written: str) -> bool:
    try:
        address = ip_address(written)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return _is_public(str(mapped)) if mapped else address in _UNICAST and address.is_global
    return address.is_global and not address.is_multicast


_GAP = r"[ .\-/\u00a0\u2010-\u2013]"
_AREA = rf"(?:{_GAP}?\(\d{{1,5}}\))?"
_RUN = re.compile(rf"\d(?:[()]{{0,2}}{_GAP}?[()]?\d){{6,}}", re.ASCII)
_GROUP = re.compile(r"\d(?<!\d\d)", re.ASCII)
_PLUS = re.compile(rf"(?<![\w+])\(?\+\d{{1,3}}\)?{_AREA}(?:{_GAP}?\d){{4,14}}(?!\w)", re.ASCII)
_ZEROS = re.compile(rf"(?<![\w.+-])00[1-9]\d{{0,2}}{_AREA}(?:{_GAP}\d{{2,8}}){{1,5}}(?!\w)", re.ASCII)
_AREA_CODE = r"(?!.11)[2-9][0-8]\d"
_AMERICAN = re.compile(
    rf"(?<![\w.+-])(?:1[ .-])?(?:\({_AREA_CODE}\) ?|{_AREA_CODE}(?P<gap>[.-]))[2-9]\d\d(?(gap)(?P=gap)|[-. ])\d{{4}}(?![\w-])(?!\.\d)",
    re.ASCII,
)
_NAME = re.compile(
    r"\b(?:tel|telephone|telefon|phone|mobile|mob|cell|cellphone|fax|whatsapp)\b[.:]?(?: ?(?:no|nr|number)\b\.?)?[ \t:=#]{0,3}$",
    re.ASCII | re.IGNORECASE,
)
_NAME_MOST = 32
_NAMED = re.compile(rf"\(?\d(?:\)?{_GAP}?\(?\d){{6,14}}(?!\w)", re.ASCII)
_COUNTRIES = re.compile(
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|"
    "21[12368]|22[0-9]|23[0-9]|24[0-9]|25[0-8]|26[0-9]|29[01789]|35[0-9]|37[0-8]|38[0-35-79]|42[013]|50[0-9]|59[0-9]|67[02-9]|68[0-35-9]|"
    "69[0-2]|80[08]|85[02356]|87[08]|88[0-368]|96[0-8]|97[0-79]|99[2-68]"
)
"""Assigned country codes (ITU-T E.164, list of 1 July 2024)."""
_LAST_GROUP = re.compile(r"(?:^|\D)\d*$", re.ASCII)
_NORTH_AMERICA = re.compile(rf"1{_AREA_CODE}[2-9]\d{{6}}")


def phones(text: str) -> Iterator[Span]:
    """Phone numbers, in their order. Each group of digits may begin one, in a run of groups that has as many digits as one needs."""
    for run in _RUN.finditer(text):
        end = 0
        for group in _GROUP.finditer(text, *run.span()):
            start = group.start()
            number = _number_at(text, start) if start >= end else None
            if number is not None:
                end = number[1]
                yield number


def _number_at(text: str, digit: int) -> Span | None:
    """The phone number whose first digit this is."""
    start = digit
    for sign in "+(":
        start -= text.endswith(sign, 0, start)
    if text.startswith(("+", "(+"), start):
        found = _PLUS.match(text, start)
        return _dialled(found, 0) if found else None
    found = _ZEROS.match(text, digit)
    dialled = _dialled(found, len("00")) if found else None
    if dialled is not None:
        return dialled
    found = _AMERICAN.match(text, start)
    if found is None and _NAME.search(text, max(0, start - _NAME_MOST), start):
        found = _NAMED.match(text, start)
    return found.span() if found else None


def _dialled(found: re.Match[str], prefix: int) -> Span | None:
    """The number itself, where it is one: groups at the end that are too much belong to something else."""
    number = found[0]
    while number and not _is_dialled(_digits(number)[prefix:]):
        number = _LAST_GROUP.sub("", number)
    opened = number.startswith("(") and number.count("(") > number.count(")")
    return (found.start() + opened, found.start() + len(number)) if number else None


def _is_dialled(digits: str) -> bool:
    if digits.startswith("1"):
        return _NORTH_AMERICA.fullmatch(digits) is not None
    return 8 <= len(digits) <= 15 and _COUNTRIES.match(digits) is not None


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))
