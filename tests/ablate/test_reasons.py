"""The sentence of each verdict, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.ablate.reasons import written_p
from llmkit.ablate.verdict import judge

BASELINE = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
NOISE = {0: 0.001, 1: -0.001, 2: 0.002, 3: -0.002}


def reason(shift: float, **options: Any) -> str | None:
    arm = {seed: value + shift + NOISE[seed] for seed, value in BASELINE.items()}
    return judge({"mha": BASELINE, "gqa": arm}, "mha", **options)[1].reason


@pytest.mark.parametrize(
    ("shift", "options", "words"),
    [
        (-0.02, {}, "0.0200 lower than mha (0.0171 to 0.0229, p 0.00021)"),
        (0.02, {"metric": "val_loss"}, "0.0200 nats higher than mha (0.0171 to 0.0229, p 0.00021)"),
        (
            -0.02,
            {"equivalence": 0.1},
            "0.0200 lower than mha (0.0171 to 0.0229, p 0.00021), which is within the 0.1 that counts as no difference (p < 0.0001)",
        ),
        (
            0.0,
            {"equivalence": 0.1},
            "level with mha (0.0029 lower to 0.0029 higher), within the 0.1 that counts as no difference (p < 0.0001)",
        ),
        (
            -0.02,
            {"confounded": {"gqa": ["more parameters"]}},
            "cannot be put down to the change alone: more parameters; 0.0200 lower than mha (0.0171 to 0.0229, p 0.00021)",
        ),
        (-0.02, {"sequential": True}, "0.0200 lower than mha (0.0134 to 0.0266, p 0.017 at all looks)"),
        (
            0.001,
            {},
            "no difference shown: 0.0010 higher than mha (0.0019 lower to 0.0039 higher, p 0.35); noise 0.00183, "
            "and 4 paired seeds show 0.00389 with power 0.8; about 25 more seeds would settle it if the difference is what was seen",
        ),
    ],
)
def test_each_verdict_has_its_sentence(shift: float, options: dict[str, Any], words: str) -> None:
    assert reason(shift, **options) == words


@pytest.mark.parametrize(("p", "words"), [(1.0, "1"), (0.0314, "0.031"), (0.00031, "0.00031"), (9e-5, "< 0.0001"), (0.0, "< 0.0001")])
def test_a_p_is_written_with_two_figures_and_no_more_zeros_than_one_counts(p: float, words: str) -> None:
    assert written_p(p) == words
