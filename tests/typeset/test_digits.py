"""Numbers as the report writes them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.typeset.digits import MINUS, NARROW, between, count, duration, evidence, measured, percent, probability, quantity, spread

numbers = st.floats(-1e12, 1e12, allow_subnormal=False)
uncertainties = st.floats(1e-7, 1e6)


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (2.01342, 0.0021, "2.0134"),
        (2.01342, 0.00996, "2.013"),
        (2.01342, 0.0099, "2.0134"),
        (2.01342, 0.21, "2.01"),
        (-0.01161, 0.0026, f"{MINUS}0.0116"),
        (12345.6, 240.0, "12,350"),
        (0.913412345, None, "0.91341"),
        (0.913412345, 1e-17, "0.91341"),
        (1234.5678, None, "1,234.6"),
        (0.0, 0.01, "0.000"),
        (-0.00001, 0.01, "0.000"),
        (3.2e-8, None, f"3.2000{NARROW}\u00d7{NARROW}10\u207b\u2078"),
        (3.2e-8, 2.1e-9, f"3.20{NARROW}\u00d7{NARROW}10\u207b\u2078"),
        (None, 0.1, "\u2013"),
    ],
)
def test_a_value_is_written_to_the_digit_at_which_its_uncertainty_has_two(
    value: float | None, uncertainty: float | None, text: str
) -> None:
    assert measured(value, uncertainty) == text


@given(numbers, uncertainties)
def test_a_written_value_is_the_value_within_a_tenth_of_its_uncertainty(value: float, uncertainty: float) -> None:
    text = measured(value, uncertainty)
    if "\u00d7" not in text and uncertainty > 1e-8 * abs(value):
        read = float(text.replace(MINUS, "-").replace(",", ""))
        assert abs(read - value) <= 0.051 * uncertainty + 1e-9 * abs(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.one_of(st.none(), st.floats(0, allow_nan=False, allow_infinity=False)))
def test_no_number_is_written_as_a_computer_does(value: float, uncertainty: float | None) -> None:
    for text in (measured(value, uncertainty), measured(value, uncertainty, sign=True), quantity(value), spread(abs(value))):
        assert not re.search(r"\de[+-]?\d|-|nan|inf|\.$", text), text


@given(numbers)
def test_a_sign_is_that_of_the_number_as_it_is_written(value: float) -> None:
    text = measured(value, sign=True)
    zero = not re.search("[1-9]", text)
    assert text[0] in ("0",) if zero else text[0] == ("+" if value > 0 else MINUS)


def test_an_interval_has_the_digits_of_its_half_width() -> None:
    assert between((-0.01613, -0.00852)) == f"[{MINUS}0.0161, {MINUS}0.0085]"
    assert between((-0.5, 0.25), sign=True) == f"[{MINUS}0.50, +0.25]"
    assert between(None) == "\u2013"


@pytest.mark.parametrize(("p", "text"), [(0.00004, "<0.001"), (0.0123, "0.012"), (0.0698, "0.070"), (0.344, "0.34"), (1.0, ">0.99")])
def test_a_p_value_has_two_digits_and_claims_no_more_than_a_test_can_know(p: float, text: str) -> None:
    assert probability(p) == text


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (124439808, "", f"124{NARROW}M"),
        (1536, "B", f"1.54{NARROW}kB"),
        (768, "B", f"768{NARROW}B"),
        (999.6, "", f"1.00{NARROW}k"),
        (8.13e9, "FLOPs", f"8.13{NARROW}GFLOPs"),
        (5.76e23, "", f"576{NARROW}Z"),
        (0, "B", f"0{NARROW}B"),
        (42, "", "42"),
    ],
)
def test_a_quantity_has_three_digits_and_an_si_prefix(number: float, unit: str, text: str) -> None:
    assert quantity(number, unit) == text


@given(st.floats(1, 9.9e23))
def test_a_quantity_is_right_within_half_a_percent(number: float) -> None:
    text, _, suffix = quantity(number).partition(NARROW)
    power = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "Z": 21}[suffix]
    assert math.isclose(float(text) * 10.0**power, number, rel_tol=0.0051)


def test_times_counts_and_levels_are_written_for_people() -> None:
    assert [duration(seconds) for seconds in (4.2, 125, 7440, 200_000)] == [
        f"4.20{NARROW}s",
        f"2{NARROW}min",
        f"2{NARROW}h 4{NARROW}min",
        f"2{NARROW}d 8{NARROW}h",
    ]
    assert count(1_966_080) == "1,966,080"
    assert (percent(0.95), percent(0.999), percent(1 - 0.05)) == ("95%", "99.9%", "95%")
    assert [evidence(e) for e in (0.314, 27.3, 1234.0, 1e9, None)] == ["0.31", "27", "1,234", ">10,000", "\u2013"]
