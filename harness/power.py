"""How many seeds and items a declared margin needs, before they are run. Knows nothing of training.

The same variances as in the verdict's interval, taken apart so that both numbers can be changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.intervals import FloatArray, half_width, mean_squares
from harness.quantiles import chi_square_below, normal_below
from harness.verdict import MIN_SEEDS, PAIRED_FROM, Rule

Goal = Literal["better", "equivalent"]

POWER = 0.8
ITEMS = (100, 200, 500, 1000, 2000, 5000)
MOST_SEEDS = 100  # more than anyone trains
_ROUNDING = 1e-9  # share of the largest score


@dataclass(frozen=True)
class Spread:
    """Variances of the difference of two arms, in the metric's unit squared.

    Attributes:
        seed_paired: Between seeds, where both arms have the same ones.
        seed_unpaired: Between seeds, were they independent: the sum of the arms' own.
        item: Between items: how much more one arm gains on some than on others.
        residual_paired: What is left of a single item of a single seed in the difference of the arms.
        residual_unpaired: The sum of the arms' own residuals, which the verdict's interval goes by below 5 seeds.
        num_seeds: Seeds that it was estimated from; None: assumed.
    """

    seed_paired: float
    seed_unpaired: float
    item: float
    residual_paired: float
    residual_unpaired: float
    num_seeds: int | None = None

    @property
    def is_zero(self) -> bool:
        """Whether the difference does not vary from seed to seed: nothing can then be said of other seeds."""
        return self.seed_paired == 0 and self.residual_paired == 0

    def inflated(self) -> Spread:
        """With the upper 80 % bound of what was estimated from few seeds; an assumption stays what it is."""
        if self.num_seeds is None:
            return self
        df = self.num_seeds - 1
        factor = df / chi_square_below(1 - POWER, df)
        return Spread(
            seed_paired=self.seed_paired * factor,
            seed_unpaired=self.seed_unpaired * factor,
            item=self.item,
            residual_paired=self.residual_paired * factor,
            residual_unpaired=self.residual_unpaired * factor,
        )


def spread_of(first: FloatArray, second: FloatArray) -> Spread:
    """Estimated from earlier scores.

    Args:
        first: (seeds, items) of one arm.
        second: The other's, on the same items; row s of both is the same seed; at least 2.
    """
    num_seeds, num_items = first.shape
    squares = mean_squares(first - second)
    arms = [mean_squares(first), mean_squares(second)]
    rounding = (_ROUNDING * max(float(np.abs(table).max()) for table in (first, second))) ** 2
    return Spread(
        seed_paired=_beyond(float(squares.seeds - squares.residual), rounding) / num_items,
        seed_unpaired=sum(max(float(arm.seeds - arm.residual), 0) / num_items for arm in arms),
        item=max(float(squares.items - squares.residual), 0) / num_seeds,
        residual_paired=_beyond(float(squares.residual), rounding),
        residual_unpaired=sum(float(arm.residual) for arm in arms),
        num_seeds=num_seeds,
    )


def assumed_spread(*, seed_sd: float, item_sd: float, residual_sd: float, correlation: float) -> Spread:
    """From stated assumptions on each of the two arms.

    Args:
        seed_sd: Of an arm's mean from seed to seed.
        item_sd: Of what an arm gains on an item beyond its mean gain.
        residual_sd: Of one score, seed and item given.
        correlation: Of the two arms' means over seeds.
    """
    return Spread(
        seed_paired=2 * seed_sd**2 * (1 - correlation),
        seed_unpaired=2 * seed_sd**2,
        item=2 * item_sd**2,
        residual_paired=2 * residual_sd**2,
        residual_unpaired=2 * residual_sd**2,
    )


@dataclass(frozen=True)
class Outlook:
    """What to expect of S seeds and N items.

    Attributes:
        half_width: Of the interval.
        better: Chance to find a true difference of the margin.
        equivalent: Chance to find `equivalent` where the arms do not differ.
    """

    num_seeds: int
    num_items: int
    half_width: float
    better: float
    equivalent: float


def outlook(spread: Spread, rule: Rule, *, num_seeds: int, num_items: int) -> Outlook:
    """What to expect of a number of seeds (at least 3) and items (at least 2)."""
    if num_seeds >= PAIRED_FROM:
        seed_variance, residual, from_items = (
            spread.seed_paired,
            spread.residual_paired,
            spread.item / num_items,
        )
    else:
        # Welch's item part takes the arms' own residuals off the variance over items, which has the paired one in it.
        seed_variance, residual = spread.seed_unpaired, spread.residual_unpaired
        from_items = max(spread.item + (spread.residual_paired - residual) / num_seeds, 0) / num_items
    from_seeds = (seed_variance + residual / num_items) / num_seeds
    error = math.sqrt(from_seeds + from_items)

    def half(alpha: float) -> float:
        # Welch's degrees of freedom lie between S - 1 and twice that; for arms that vary alike about in the middle.
        df = (num_seeds - 1) * (1.0 if num_seeds >= PAIRED_FROM else 1.5)
        seed_part, seed_df, item_part = (np.asarray(value) for value in (from_seeds, df, from_items))
        return float(half_width(alpha, seed_part, seed_df, item_part, num_items))

    room = rule.margin - half(rule.alpha), rule.margin - half(2 * rule.alpha)
    return Outlook(
        num_seeds=num_seeds,
        num_items=num_items,
        half_width=half(rule.alpha),
        # Nothing varies from seed to seed: undecided from 5 seeds on, and nothing to plan by below.
        better=0.0 if spread.is_zero else normal_below(room[0] / error),
        equivalent=0.0 if spread.is_zero else max(0.0, 2 * normal_below(room[1] / error) - 1),
    )


def fewest_seeds(spread: Spread, rule: Rule, *, num_items: int, goal: Goal) -> int | None:
    """The smallest number of seeds with a power of 80 %; None if 100 do not have it: then only more items help.

    Args:
        spread: What the scores vary by.
        rule: Margin and alpha.
        num_items: How many items.
        goal: `better`: find a true difference of the margin; `equivalent`: find that arms do not differ.
    """
    for num_seeds in range(MIN_SEEDS, MOST_SEEDS + 1):
        if getattr(outlook(spread, rule, num_seeds=num_seeds, num_items=num_items), goal) >= POWER:
            return num_seeds
    return None


def _beyond(value: float, rounding: float) -> float:
    """A variance; 0 if it is negative or rounding."""
    return value if value > rounding else 0.0
