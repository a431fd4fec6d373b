"""Intervals for the difference of two tables of scores (seeds x items), for other seeds and other items.

The squared half-width is the sum of a seed part and an item part, each with its own Student quantile;
docs/decisions/verdict.md says how often it was wrong in simulation. Knows nothing of training.

Arrays: s = seeds, i = items; any leading axes are independent replications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.quantiles import t_above

FloatArray = NDArray[np.float64]
Form = Literal["welch", "paired"]

_SMALLEST_LOG_P = math.log(1e-100)
_LOG_P_PRECISION = 1e-12


class MeanSquares(NamedTuple):
    """The two-way table of seeds and items: its mean and its mean squares."""

    mean: FloatArray
    seeds: FloatArray
    items: FloatArray
    residual: FloatArray


@dataclass(frozen=True)
class Estimate:
    """A difference, or a mean, and the two parts of its uncertainty.

    Attributes:
        seed_variance: What the seed part would be with a single seed; it shrinks with the number of seeds.
        seed_part: Squared standard error that comes from seeds, with `seed_df` degrees of freedom.
        item_part: Squared standard error that comes from items, with `num_items` - 1.
        num_seeds: Seeds of the arm that has fewer.
    """

    form: Form
    difference: FloatArray
    seed_variance: FloatArray
    seed_part: FloatArray
    seed_df: FloatArray
    item_part: FloatArray
    num_seeds: int
    num_items: int

    def half_width(self, alpha: float) -> FloatArray:
        """Half the width of the interval with confidence 1 - `alpha`."""
        return half_width(alpha, self.seed_part, self.seed_df, self.item_part, self.num_items)


def paired(first: FloatArray, second: FloatArray) -> Estimate:
    """Row s of both tables (..., seeds, items) is the same seed."""
    return estimate_mean(first - second)


def estimate_mean(table: FloatArray) -> Estimate:
    """The mean of a table (..., seeds, items), for other seeds and other items; at least 2 seeds."""
    num_seeds, num_items = table.shape[-2:]
    squares = mean_squares(table)
    return Estimate(
        form="paired",
        difference=squares.mean,
        seed_variance=squares.seeds / num_items,
        seed_part=squares.seeds / (num_seeds * num_items),
        seed_df=np.full_like(squares.mean, num_seeds - 1),
        item_part=np.maximum(squares.items - squares.residual, 0) / (num_seeds * num_items),
        num_seeds=num_seeds,
        num_items=num_items,
    )


def welch(first: FloatArray, second: FloatArray) -> Estimate:
    """Tables (..., seeds, items) of independent seeds, their number may differ; at least 2 in each."""
    num_items = first.shape[-1]
    num_first, num_second = first.shape[-2], second.shape[-2]
    of_first, of_second = mean_squares(first), mean_squares(second)
    variances = of_first.seeds / num_items, of_second.seeds / num_items  # of the arms' seed means
    parts = variances[0] / num_first, variances[1] / num_second
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (num_first - 1) + parts[1] ** 2 / (num_second - 1))
    fewest = min(num_first, num_second) - 1
    by_item = first.mean(-2) - second.mean(-2)  # (..., items)
    residual = of_first.residual / num_first + of_second.residual / num_second
    return Estimate(
        form="welch",
        difference=of_first.mean - of_second.mean,
        seed_variance=variances[0] + variances[1],
        seed_part=parts[0] + parts[1],
        seed_df=np.clip(np.nan_to_num(df, nan=fewest), fewest, num_first + num_second - 2),
        item_part=np.maximum(by_item.var(-1, ddof=1) - residual, 0) / num_items,
        num_seeds=fewest + 1,
        num_items=num_items,
    )


def mean_squares(table: FloatArray) -> MeanSquares:
    """Mean and mean squares of tables (..., seeds, items)."""
    num_seeds, num_items = table.shape[-2:]
    mean, by_seed, by_item = table.mean((-2, -1)), table.mean(-1), table.mean(-2)
    residual = table - by_seed[..., :, None] - by_item[..., None, :] + mean[..., None, None]
    return MeanSquares(
        mean=mean,
        seeds=num_items * ((by_seed - mean[..., None]) ** 2).sum(-1) / (num_seeds - 1),
        items=num_seeds * ((by_item - mean[..., None]) ** 2).sum(-1) / (num_items - 1),
        residual=(residual**2).sum((-2, -1)) / ((num_seeds - 1) * (num_items - 1)),
    )


def cluster_means(values: FloatArray, clusters: Sequence[str]) -> FloatArray:
    """Columns that belong together (several items from one prompt), averaged: (..., items) to (..., clusters).

    Args:
        values: (..., items).
        clusters: The cluster of each item; the result has them sorted.
    """
    _, place, sizes = np.unique(np.array(clusters), return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1) / sizes, dtype=np.float64)


def item_interval(scores: FloatArray, alpha: float) -> tuple[float, float]:
    """Student's interval for one model's mean over other items; `scores` is (items,), at least 2."""
    half = float(t_above(alpha / 2, len(scores) - 1)) * float(scores.std(ddof=1)) / math.sqrt(len(scores))
    return float(scores.mean()) - half, float(scores.mean()) + half


def p_value(estimate: Estimate) -> float:
    """The alpha at which the interval just reaches 0, found by bisection: importing scipy's search takes longer than all of them."""
    distance = abs(float(estimate.difference))
    if distance == 0:
        return 1.0

    low, high = _SMALLEST_LOG_P, 0.0
    if estimate.half_width(math.exp(low)) <= distance:
        return math.exp(low)
    while high - low > _LOG_P_PRECISION:
        middle = (low + high) / 2
        if estimate.half_width(math.exp(middle)) > distance:
            low = middle
        else:
            high = middle
    return math.exp(high)


def half_width(
    alpha: float, seed_part: FloatArray, seed_df: FloatArray, item_part: FloatArray, num_items: int
) -> FloatArray:
    """Half the width of the interval with confidence 1 - `alpha`, from the two parts of its variance."""
    by_seeds = t_above(alpha / 2, seed_df) ** 2 * seed_part
    by_items = t_above(alpha / 2, num_items - 1) ** 2 * item_part
    return np.asarray(np.sqrt(by_seeds + by_items), dtype=np.float64)
