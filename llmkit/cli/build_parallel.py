"""`llmkit build --parallel`: what each rank would hold and send."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from llmkit.cli.output import quantity, result, show_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmkit.core.spec import Spec
    from llmkit.train.parallel.account import RankAccount

HELD = ("weights", "gradients", "optimizer", "gathered")
SENT = ("all_gather", "reduce_scatter", "all_reduce", "point_to_point")


def spread(spec: Spec) -> list[RankAccount]:
    """The account of a rank of every stage."""
    from llmkit.train.parallel.account import account

    with warnings.catch_warnings(action="ignore"):
        return account(spec)


def show_ranks(ranks: Sequence[RankAccount], spec: Spec) -> None:
    """A row for a rank of every stage of the pipeline."""
    if not ranks:
        return
    degrees = " x ".join(f"{name} {degree}" for name, degree in spec.parallel.degrees().items() if degree > 1)
    result.print(f"{spec.parallel.ranks:,} ranks: {degrees or 'one'}", markup=False)
    heads = ("stage", "layers", *(f"{name} held" for name in HELD), *(f"{name} sent a step" for name in SENT))
    rows = [
        (str(one.stage), one.layers, *(f"{quantity(getattr(one, name))}B" for name in (*HELD, *SENT)))
        for one in ranks
    ]  # fmt: skip
    show_rows(heads, rows)
