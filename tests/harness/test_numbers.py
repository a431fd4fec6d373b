"""Ratios are written with what their interval allows to say."""

from __future__ import annotations

import pytest

from harness.numbers import TOO_WIDE, interval, ratio_with_interval, with_interval


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.7, 0.6, 0.8, ("0.70", "0.60 to 0.80")),
        (2.0, 0.004, 900.0, ("2", "0.0040 to 900")),
        (0.3, 0.0005, 180.0, ("0.300", "below 0.001 to 180")),
        (2.0, 1e-9, 4.3e8, ("2.00", TOO_WIDE)),
        (2.0, 1e-304, 1e304, ("2.00", TOO_WIDE)),
        (2.0, None, None, ("2.00", "no interval")),
        (2.0, 2.0, 2.0, ("2.00", "no spread")),
    ],
)
def test_a_ratio_is_never_0_nor_its_interval_absurd(
    value: float, low: float | None, high: float | None, shown: tuple[str, str]
) -> None:
    assert ratio_with_interval(value, low, high) == shown


@pytest.mark.parametrize(("low", "high"), [(0.41, 0.47), (0.9, 1.1), (0.05, 4.0), (1.2, 150.0)])
def test_an_ordinary_ratio_is_written_as_any_other_number(low: float, high: float) -> None:
    value = (low * high) ** 0.5
    assert ratio_with_interval(value, low, high) == (with_interval(value, low, high), interval(low, high))
