"""Numbers as a reader takes them: no more digits than are known, a true minus, SI prefixes, and never `1e-05`.

Text for people only; the JSON beside a report has every digit.
"""

from __future__ import annotations

import math

MINUS = "\u2212"
TIMES = "\u00d7"
NARROW = "\u202f"
"""A narrow space at which no line breaks: between a number and its unit, and between thousands."""

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 7
"""Decimals beyond which a number is written with a power of ten."""

PLAIN = 5
"""Significant digits of a number of which no uncertainty is known."""

EXACT = 1e-9
"""An uncertainty smaller than this part of the number is rounding of the machine, and says nothing."""

ABSENT = "\u2013"
"""What stands where there is no number."""


def measured(value: float | None, uncertainty: float | None = None, sign: bool = False) -> str:
    """A number to the digit at which its uncertainty has two: 2.01342 with 0.0021 is `2.0134`.

    value        None is a dash
    uncertainty  a deviation or half an interval; None, zero or rounding of the machine: five significant digits
    sign         whether a plus stands before what is above zero
    """
    if value is None:
        return ABSENT
    return _with_sign(value, _decimals(value, uncertainty), sign)


def spread(uncertainty: float | None) -> str:
    """A deviation or another uncertainty, with two significant digits."""
    return measured(uncertainty, uncertainty)


def between(interval: tuple[float, float] | None, sign: bool = False) -> str:
    """An interval, both ends to the digit at which its half width has two: `[-0.016, -0.009]`, with true minuses."""
    if interval is None:
        return ABSENT
    half = (interval[1] - interval[0]) / 2
    low, high = (measured(end, half, sign) for end in interval)
    return f"[{low}, {high}]"


def probability(p: float | None) -> str:
    """A p-value with two significant digits; `<0.001` below, since no test here is true further out."""
    if p is None:
        return ABSENT
    if p < 0.001:
        return "<0.001"
    if p > 0.99:
        return ">0.99"
    return f"{p:#.2g}" if p < 0.1 else f"{p:.2f}"


def evidence(e: float | None) -> str:
    """An e-value: two significant digits, and no more than `>10,000`."""
    if e is None:
        return ABSENT
    if e > 10_000:
        return ">10,000"
    return f"{e:,.0f}" if e >= 99.5 else measured(e, e)


def signed_fixed(value: float, decimals: int, sign: bool = False) -> str:
    """A number with given decimals, as at a tick; zero has no sign."""
    return _with_sign(value, decimals, sign)


def quantity(number: float | None, unit: str = "") -> str:
    """Three digits and an SI prefix: 124439808 is `124 M`, 1536 B is `1.54 kB`."""
    if number is None:
        return ABSENT
    index = 0
    scaled = number
    while abs(scaled) >= 999.5 and index < len(PREFIXES) - 1:
        scaled, index = scaled / 1000, index + 1
    if not 0.01 <= abs(scaled) < 1000 and scaled:
        return measured(number, abs(number) / 10) + (NARROW + unit if unit else "")
    text = f"{scaled:.0f}" if abs(scaled) >= 99.95 or (index == 0 and scaled == round(scaled)) else f"{scaled:#.3g}"
    suffix = PREFIXES[index] + unit
    return _minus(text) + (NARROW + suffix if suffix else "")


def count(number: float | None) -> str:
    """A whole number, with commas between thousands."""
    return ABSENT if number is None else _minus(f"{number:,.0f}")


def duration(seconds: float | None) -> str:
    """Time in the two units that matter: `2 h 4 min`."""
    if seconds is None:
        return ABSENT
    if seconds < 59.5:
        return f"{measured(seconds, max(seconds, 1.0) / 10)}{NARROW}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{NARROW}h {minutes}{NARROW}min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days}{NARROW}d {hours}{NARROW}h"


def percent(fraction: float) -> str:
    """A level such as 1 - alpha: `95%`, `99.9%`."""
    return f"{100 * fraction:.6g}%"


def given(number: float, significant: int | None = None) -> str:
    """A number that somebody chose, as they would write it; one that was measured, to so many significant digits."""
    if significant is not None:
        number = float(f"{number:.{significant}g}")
    if number and not 1e-6 <= abs(number) < 1e9:
        return measured(number)
    text = f"{number:,.10f}".rstrip("0").rstrip(".")
    return _minus(text) if number else "0"


def portion(part: float, whole: float) -> str:
    """A part of a whole, to a tenth of a percent: `8.8%`; `<0.1%` where there is some, `>99.9%` where there is not all."""
    if not whole:
        return ABSENT
    hundredths = 100 * part / whole
    if 0 < hundredths < 0.05:
        return "<0.1%"
    if 99.95 <= hundredths < 100:
        return ">99.9%"
    return f"{hundredths:.0f}%" if hundredths in (0, 100) else _minus(f"{hundredths:.1f}") + "%"


def half_width(interval: tuple[float, float] | None) -> float | None:
    """Half an interval: the uncertainty that its middle is written with."""
    return None if interval is None else (interval[1] - interval[0]) / 2


def _decimals(value: float, uncertainty: float | None) -> int:
    """How many decimals; negative where tens or hundreds are not known either."""
    if uncertainty is None or not uncertainty > abs(value) * EXACT:
        return PLAIN - 1 - _exponent(value, PLAIN) if value else 0
    return 1 - _exponent(uncertainty, 2)


def _exponent(value: float, significant: int) -> int:
    """The power of ten of the first digit, after rounding: 0.00996 to two digits is 0.010, whose first digit is 10^-2."""
    return int(f"{abs(value):.{significant - 1}e}".partition("e")[2])


def _with_sign(value: float, decimals: int, sign: bool) -> str:
    text = _power_of_ten(value, decimals) if decimals > LONGEST or abs(value) >= 1e9 else _fixed(value, decimals)
    if not any("1" <= digit <= "9" for digit in text):
        return text.lstrip("-")
    return _minus(text) if value < 0 or not sign else f"+{text}"


def _fixed(value: float, decimals: int) -> str:
    if decimals >= 0:
        return f"{value:,.{decimals}f}"
    return f"{round(value, decimals):,.0f}"


def _power_of_ten(value: float, decimals: int) -> str:
    """A number times a power of ten, with a true multiplication sign and the power set high."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    digits = min(max(exponent + decimals, 0), 8)
    mantissa, _, power = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}{NARROW}{TIMES}{NARROW}10{str(int(power)).translate(SUPERSCRIPTS)}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
