"""Filters of rules about the text itself: parameters, with the published thresholds as defaults. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component

COMPONENTS: tuple[Component, ...] = ()
