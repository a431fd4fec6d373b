"""Cost ratios of few and of strange seeds; what an ordinary run costs is tested with the summary."""

from __future__ import annotations

import math

import pytest

from harness.costs import log_ratio


def test_a_ratio_is_the_geometric_mean_with_students_interval_of_its_logarithm() -> None:
    found = log_ratio({0: 1.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 5: 3.0}, 0.05)
    assert found is not None
    (ratio, low, high), num_seeds = found
    half = 12.7062047364 * math.log(2) / 2  # Student's t of one degree of freedom; the sd is ln 2 / sqrt 2
    assert (ratio, low, high, num_seeds) == pytest.approx(
        (math.sqrt(2), math.sqrt(2) * math.exp(-half), math.sqrt(2) * math.exp(half), 2)
    )


@pytest.mark.parametrize("alpha", [1e-6, 1e-16])
def test_bounds_that_no_number_can_hold_are_cut(alpha: float) -> None:
    found = log_ratio({0: 1.0, 1: 20.0}, {0: 1.0, 1: 1.0}, alpha)
    assert found is not None
    (ratio, low, high), _ = found
    assert ratio == pytest.approx(math.sqrt(20))
    assert low is not None
    assert high is not None
    assert 0 < low < 1e-300
    assert 1e300 < high < math.inf
