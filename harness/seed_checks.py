"""What the seeds of one arm say of themselves: the A/A control, and seeds that look like outliers. No training here."""

from __future__ import annotations

import numpy as np

from harness.intervals import Estimate, FloatArray, welch
from harness.quantiles import t_tail

AA_MIN_SEEDS = 4  # two in each half, the fewest that have an interval
OUTLIER_MIN_SEEDS = 4


def aa_halves(num_seeds: int) -> tuple[list[int], list[int]]:
    """Rows of the two halves, by one rule that is fixed before looking: every second seed in order of number."""
    rows = list(range(num_seeds))
    return rows[::2], rows[1::2]


def aa_estimate(values: FloatArray) -> Estimate:
    """One half of an arm's seeds against the other, by Welch's form: the true difference is 0.

    Args:
        values: (..., seeds, items), the seeds in order of their number, at least `AA_MIN_SEEDS`.
    """
    first, second = aa_halves(values.shape[-2])
    return welch(values[..., first, :], values[..., second, :])


def outlier_p_values(means: FloatArray) -> FloatArray:
    """How unlikely it is that a seed lies so far from all the others: a p-value for each seed, not corrected.

    The externally studentised deviation: each mean against the others' mean, in units of the others' standard
    deviation, with S - 2 degrees of freedom. With normal seeds a corrected value (times the number of seeds that are
    looked at) below alpha comes up in at most alpha of comparisons.

    Args:
        means: (..., seeds), at least `OUTLIER_MIN_SEEDS`.

    References:
        Cook and Weisberg, Residuals and Influence in Regression (1982), section 2.2.2.
    """
    num_seeds = means.shape[-1]
    deviation = means - means.mean(-1, keepdims=True)
    leave_out = num_seeds / (num_seeds - 1)
    others = ((deviation**2).sum(-1, keepdims=True) - leave_out * deviation**2) / (num_seeds - 2)
    rounding = 1e-24 * np.abs(means).max(-1, keepdims=True) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = np.abs(deviation) * np.sqrt(leave_out / np.maximum(others, rounding))
    # Equal means say nothing: 0 / 0.
    return np.asarray(2 * t_tail(np.nan_to_num(studentised, nan=0.0), num_seeds - 2), dtype=np.float64)
