"""Numbers that JSON can hold."""

from __future__ import annotations

import math


def finite(value: object) -> object:
    """JSON has no NaN and no infinity: a number that is none becomes None, at any depth of mappings and lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
