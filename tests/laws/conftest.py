"""Every law on every example of every built-in takes a minute: those beyond a component's first example are slow."""

from __future__ import annotations

import pytest

from llmkit.testing import Case


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("law")  # type: ignore[attr-defined]
        if isinstance(case, Case) and case.example:
            item.add_marker(pytest.mark.slow)
