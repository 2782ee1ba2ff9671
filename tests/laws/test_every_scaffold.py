"""Every law on every template that `llmkit plugins new` copies: what a newcomer begins with is right."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest

from llmkit.core.kinds import Kind


@pytest.mark.llmkit_laws(*(import_module(f"llmkit.testing.scaffold.{kind}") for kind in Kind))
def test_a_template_keeps_the_law(law: Callable[[], None]) -> None:
    law()
