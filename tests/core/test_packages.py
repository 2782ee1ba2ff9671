"""Versions of what is installed."""

from __future__ import annotations

import pydantic

from llmkit.core.packages import installed


def test_a_version_is_what_the_package_says_of_itself_and_none_where_it_is_not_there() -> None:
    assert installed("pydantic") == pydantic.VERSION
    assert installed("no-such-distribution") is None
