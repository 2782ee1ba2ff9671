"""What differs between the arms of a study besides the thing under study, told before any compute is spent."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "parameters", "flops", "tokens", "text", "vocabulary", "validation", "data_order", "learning_rate", "optimizer_groups",
    "initial_scale", "schedule", "precision",
]  # fmt: skip
"""What a confounder is called, and waived by."""

KINDS: tuple[str, ...] = get_args(Kind)
