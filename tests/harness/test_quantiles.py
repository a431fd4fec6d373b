"""Quantiles and tails, against scipy.stats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.quantiles import chi_square_below, normal_below, t_above, t_tail

DEGREES = [1, 2, 2.7, 4, 9, 199, 12345.6]
SHARES = [1e-12, 0.0125, 0.025, 0.2, 0.5, 0.9]


@pytest.mark.parametrize("df", DEGREES)
def test_quantiles_and_tails_are_those_of_scipy_stats(df: float) -> None:
    shares = np.array(SHARES)
    values = stats.t.isf(shares, df)
    np.testing.assert_allclose(t_above(shares, df), values, rtol=1e-12)
    np.testing.assert_allclose(t_tail(values, df), shares, rtol=1e-9)
    assert [chi_square_below(share, df) for share in SHARES] == pytest.approx(
        stats.chi2.ppf(shares, df).tolist(), rel=1e-12
    )


def test_the_normal_is_that_of_scipy_stats() -> None:
    for value in (-8.0, -1.96, 0.0, 0.5, 3.0):
        assert normal_below(value) == pytest.approx(float(stats.norm.cdf(value)), rel=1e-12)
