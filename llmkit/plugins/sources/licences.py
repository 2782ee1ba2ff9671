"""The licence of a source file: what it says of itself, or the licence file nearest above it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([\w.+ ()-]+)")
FILES = re.compile(r"(un)?licen[cs]e|copying|copyright", re.IGNORECASE)
"""What the files are called that have a licence in them, with whatever behind: LICENSE-MIT, COPYING.txt."""

PHRASES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("AGPL-3.0", ("gnu affero general public license", "version 3"), ()),
    ("LGPL-3.0", ("gnu lesser general public license version 3",), ()),
    ("LGPL-3.0", ("gnu lesser general public license", "version 3, 29 june 2007"), ()),
    ("LGPL-2.1", ("gnu lesser general public license", "version 2.1"), ()),
    ("GPL-3.0", ("gnu general public license version 3",), ()),
    ("GPL-3.0", ("gnu general public license", "version 3, 29 june 2007"), ()),
    ("GPL-2.0", ("gnu general public license", "version 2"), ()),
    ("MPL-2.0", ("mozilla public license", "2.0"), ()),
    ("EPL-2.0", ("eclipse public license", "2.0"), ()),
    ("Apache-2.0", ("apache license", "version 2.0"), ()),
    ("BSL-1.0", ("boost software license - version 1.0",), ()),
    ("CC0-1.0", ("cc0 1.0 universal",), ()),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",), ()),
    ("CC-BY-4.0", ("attribution 4.0 international",), ()),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",), ()),
    ("PSF-2.0", ("python software foundation license version 2",), ()),
    ("Zlib", ("altered source versions must be plainly marked as such",), ()),
    ("MIT", ("permission is hereby granted, free of charge, to any person obtaining a copy", "permission notice shall be included"), ()),
    ("MIT-0", ("permission is hereby granted, free of charge, to any person obtaining a copy",), ("shall be included",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose", "permission notice appear in all"), ()),
    ("ISC", ("permission to use, copy, modify, and distribute this software for any purpose", "permission notice appear in all"), ()),
    ("0BSD", ("permission to use, copy, modify, and/or distribute this software for any purpose",), ("appear in all",)),
    (
        "BSD-3-Clause",
        ("redistribution and use in source and binary forms", "to endorse or promote products"),
        ("all advertising materials",),
    ),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms", "in binary form must reproduce"), ("to endorse or promote",)),
)
"""An SPDX identifier, what a text of this licence says, and what it does not say."""


def of_header(text: str) -> str:
    """The SPDX expression on a line of this text; empty where there is none."""
    found = SPDX.search(text)
    return found[1].strip().rstrip("-").strip() if found else ""


def of_texts(texts: Iterable[str]) -> str:
    """What licence files in one folder say together: any of them, as an SPDX expression; empty where none is known."""
    return " OR ".join(dict.fromkeys(filter(None, map(_known, texts))))


def _known(text: str) -> str:
    said = of_header(text)
    if said:
        return said
    flat = " ".join(re.sub(r"[\s*#/]+", " ", text).lower().split())
    fitting = [
        (flat.find(says[0]), name)
        for name, says, says_not in PHRASES
        if all(phrase in flat for phrase in says) and not any(phrase in flat for phrase in says_not)
    ]
    # A licence names itself first, and then perhaps others that it goes with.
    return min(fitting, key=lambda one: one[0])[1] if fitting else ""


def allows(expression: str, allowed: Sequence[str]) -> bool:
    """Whether a file under this SPDX expression may be taken by someone who takes these: one side of an OR, both sides of an AND.

    An exception (`WITH`) only adds to what is allowed. What is no expression is allowed by nobody.
    """
    known = {_plain(name) for name in allowed}
    words = re.findall(r"[()]|[^\s()]+", expression)
    try:
        met, rest = _either(words, known)
    except IndexError:
        return False
    return met and not rest


def _either(words: list[str], known: set[str]) -> tuple[bool, list[str]]:
    met, words = _both(words, known)
    while words and words[0].upper() == "OR":
        other, words = _both(words[1:], known)
        met = met or other
    return met, words


def _both(words: list[str], known: set[str]) -> tuple[bool, list[str]]:
    met, words = _one(words, known)
    while words and words[0].upper() == "AND":
        other, words = _one(words[1:], known)
        met = met and other
    return met, words


def _one(words: list[str], known: set[str]) -> tuple[bool, list[str]]:
    if words[0] == "(":
        met, words = _either(words[1:], known)
        return met and words[0] == ")", words[1:]
    met, words = _plain(words[0]) in known, words[1:]
    return met, words[2:] if words and words[0].upper() == "WITH" else words


def _plain(name: str) -> str:
    """`GPL-2.0-only`, `GPL-2.0-or-later`, `GPL-2.0+` are GPL-2.0 to whoever allows that."""
    return re.sub(r"(-only|-or-later|\+)$", "", name.lower())
