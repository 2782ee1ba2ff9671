"""What licence a text is, and whether an expression is allowed."""

from __future__ import annotations

from importlib.metadata import distributions

import pytest

from llmkit.plugins.sources.licences import FILES, allows, of_header, of_texts

KNOWN = {
    "MIT License": "MIT",
    "Apache-2.0": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "MIT": "MIT",
    "MPL-2.0": "MPL-2.0",
    "ISC": "ISC",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
}
"""What packages say of themselves, and the SPDX identifier of that."""


def test_licence_texts_of_installed_packages_are_what_their_metadata_says() -> None:
    found: dict[str, tuple[str, str]] = {}
    for distribution in distributions():
        said = distribution.metadata.get("License-Expression") or distribution.metadata.get("License") or ""
        files = [file for file in distribution.files or [] if ".dist-info" in str(file) and FILES.match(file.name)]
        if said.strip() in KNOWN and len(files) == 1:
            text = files[0].read_text(encoding="utf-8")
            found[distribution.name] = (KNOWN[said.strip()], of_texts([text]))
    # A file may have two licences in it, one after the other, and the metadata names the second.
    wrong = {name: both for name, both in found.items() if both[0] != both[1]}
    assert len(found) > 10 and len(wrong) <= len(found) / 20, wrong


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007"], "GPL-3.0"),
        (["GNU GENERAL PUBLIC LICENSE\n   Version 2, June 1991"], "GPL-2.0"),
        (["GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3, 19 November 2007"], "AGPL-3.0"),
        (["GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1, February 1999"], "LGPL-2.1"),
        (["Mozilla Public License Version 2.0"], "MPL-2.0"),
        (["This is free and unencumbered software released into the public domain."], "Unlicense"),
        (
            [
                "Apache License\n Version 2.0, January 2004",
                "Permission is hereby granted, free of charge, to any person obtaining a copy of",
            ],
            "Apache-2.0 OR MIT-0",
        ),
        (["SPDX-License-Identifier: MIT OR Apache-2.0"], "MIT OR Apache-2.0"),
        (["You may look at this and nothing else."], ""),
        ([], ""),
    ],
)
def test_texts_are_known_by_their_phrases(texts: list[str], expected: str) -> None:
    assert of_texts(texts) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# SPDX-License-Identifier: MIT\n", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */", "GPL-2.0-only WITH Linux-syscall-note"),
        ("// SPDX-License-Identifier: (MIT OR Apache-2.0)\r\n", "(MIT OR Apache-2.0)"),
        ("<!-- SPDX-License-Identifier: CC-BY-4.0 -->", "CC-BY-4.0"),
        ("no line", ""),
    ],
)
def test_a_header_is_read_whatever_comments_look_like(line: str, expected: str) -> None:
    assert of_header("first\n" + line) == expected


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0 AND MIT", False),
        ("MIT AND Apache-2.0", True),
        ("(GPL-2.0 OR MIT) AND Apache-2.0", True),
        ("GPL-2.0 OR (MIT AND GPL-3.0)", False),
        ("MIT AND GPL-3.0 OR Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0 WITH Classpath-exception-2.0", False),
        ("(MIT", False),
        ("MIT Apache-2.0", False),
        ("OR", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_by_one_side_of_or_and_both_of_and(expression: str, allowed: bool) -> None:
    assert allows(expression, ["MIT", "Apache-2.0"]) == allowed


def test_versions_with_and_without_later_ones_are_one() -> None:
    assert all(allows(expression, ["GPL-2.0"]) for expression in ("GPL-2.0-only", "GPL-2.0-or-later", "GPL-2.0+", "GPL-2.0"))
