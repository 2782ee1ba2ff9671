"""The columns of the table of results, in the order in which a paper has them: what an arm costs, what it reached, what that means."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llmkit.ablate.report.words import difference_words, head_of, mean_words
from llmkit.ablate.results import ArmResult, StudyResult
from llmkit.typeset.digits import MINUS, between, probability, quantity
from llmkit.typeset.table import Entry


class Column(NamedTuple):
    """A column of the table of results."""

    key: str
    head: str
    unit: str
    entry: Callable[[ArmResult], Entry]


def columns(result: StudyResult) -> list[Column]:
    """The columns in which some arm has something."""
    every = [
        Column("parameters", "parameters", "", lambda arm: _number(arm.parameters.get("total"))),
        Column("flops", "training", "FLOPs per token", lambda arm: _number(arm.flops_per_token.get("training"))),
        Column("speed", "speed", "tokens per s", lambda arm: _number(arm.tokens_per_second)),
        Column("memory", "memory", "peak", lambda arm: _number(arm.peak_memory_bytes, "B")),
        Column("cache", "KV cache", "per token", lambda arm: _number(arm.kv_cache_bytes_per_token, "B")),
        Column("mean", *head_of(result), _mean),
        Column("difference", "difference", f"arm {MINUS} baseline", _difference),
        Column("p", "p", "adjusted", _p),
        Column("verdict", "verdict", "", _verdict),
    ]
    return [column for column in every if any(column.entry(arm).text for arm in result.arms)]


def _number(number: float | None, unit: str = "") -> Entry:
    return Entry("" if number is None else quantity(number, unit))


def _mean(arm: ArmResult) -> Entry:
    judgement = arm.judgement
    if judgement.mean is None:
        return Entry("")
    number = len(judgement.seeds)
    return Entry(mean_words(arm), f"{number} seed{'' if number == 1 else 's'}" if number else "")


def _difference(arm: ArmResult) -> Entry:
    judgement = arm.judgement
    if judgement.difference is None:
        return Entry("")
    return Entry(difference_words(arm), between(judgement.interval, sign=True) if judgement.interval else "")


def _p(arm: ArmResult) -> Entry:
    return Entry("" if arm.judgement.p_adjusted is None else probability(arm.judgement.p_adjusted))


def _verdict(arm: ArmResult) -> Entry:
    return Entry(arm.judgement.verdict or "", arm.worth.words if arm.worth else "")
