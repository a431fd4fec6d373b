"""How numbers are written for people: three to four significant digits, a mean with its interval, units said."""

from __future__ import annotations

import math

NOT_MEASURED = "not measured"
GIB, MIB = 2**30, 2**20
ROUNDING = 1e-9  # an interval narrower than this share of its ends is rounding
WIDEST_RATIO = 1000  # an interval that reaches further from its ratio than by this factor says nothing
TOO_WIDE = "interval too wide to say"
NOTHING = 1e-12  # what is nearer to 0 is rounding: differences of equal means come out so


def number(value: float | None, *, digits: int = 3) -> str:
    """`value` with `digits` significant digits; whole numbers are never cut."""
    if value is None:
        return NOT_MEASURED
    if abs(value) < NOTHING:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{_decimals(value, digits)}f}"


def count(value: float | None) -> str:
    """A number of things; a mean of counts is rounded."""
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`low to high`, as precise as its width allows."""
    if low is None or high is None:
        return "no interval"
    if not high - low > max(NOTHING, ROUNDING * max(abs(low), abs(high))):
        return "no spread"
    decimals = _interval_decimals(low, high)
    return f"{_fixed(low, decimals, signed=signed)} to {_fixed(high, decimals, signed=signed)}"


def with_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`value`, as precise as the interval around it allows."""
    if value is None:
        return NOT_MEASURED
    if low is None or high is None or interval(low, high) == "no spread":
        return f"{'+' if signed and value > NOTHING else ''}{number(value)}"
    return _fixed(value, _interval_decimals(low, high), signed=signed)


def ratio_with_interval(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A ratio and its interval. A positive number is not shown as 0; an interval that says nothing is not shown at all."""
    if low is None or high is None:
        return number(value), interval(low, high)
    if high > WIDEST_RATIO**2 * low:
        return number(value), TOO_WIDE
    shown, bounds = with_interval(value, low, high), interval(low, high)
    lower, separator, upper = bounds.partition(" to ")
    if separator and _is_zero(lower):
        bounds = f"{'below 0.001' if low < 0.001 else number(low, digits=2)} to {upper}"
    return number(value) if _is_zero(shown) else shown, bounds


def bytes_text(value: int | None) -> str:
    """Memory in MiB or GiB."""
    if value is None:
        return NOT_MEASURED
    return f"{number(value / GIB)} GiB" if value >= GIB else f"{number(value / MIB)} MiB"


def seconds_text(value: float | None) -> str:
    """A duration in seconds."""
    return NOT_MEASURED if value is None else f"{number(value)} s"


def p_text(value: float | None) -> str:
    """A p-value; a tiny one only as a bound."""
    if value is None:
        return "none"
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _interval_decimals(low: float, high: float) -> int:
    return _decimals((high - low) / 2, 2)


def _decimals(value: float, digits: int) -> int:
    return min(8, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def _fixed(value: float, decimals: int, *, signed: bool) -> str:
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    return text.lstrip("+-") if _is_zero(text) else text


def _is_zero(text: str) -> bool:
    return not any(digit in "123456789" for digit in text)
