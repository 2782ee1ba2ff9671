"""Filters that learn, look something up, or redact: parameters. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component

COMPONENTS: tuple[Component, ...] = ()
