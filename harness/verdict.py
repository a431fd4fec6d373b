"""How a verdict is reached from two tables of scores (seeds x items). Knows nothing of training.

The interval must hold for other seeds and for other items. Its squared half-width is the sum of a seed part and an
item part, each with its own Student quantile; docs/decisions/verdict.md says how often it was wrong in simulation.

Arrays: s = seeds, i = items; any leading axes are independent replications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]
Form = Literal["welch", "paired"]

MIN_SEEDS = 3  # for a verdict; an interval needs 2
PAIRED_FROM = 5
MOST_SEEDS = 10_000  # beyond it the advice is "more items"
EQUIVALENT, UNDECIDED, INCOMPLETE = "equivalent", "undecided", "incomplete"

_POWER_80 = 0.84  # standard errors to add for a power of 80 %
_SMALLEST_LOG_P = math.log(1e-100)
_ROUNDING = 1e-9  # seed means that differ by less than this share of the largest score are equal


@dataclass(frozen=True)
class Scores:
    """One arm's scores on the primary metric, more being better.

    Attributes:
        name: The arm's name.
        planned: Every seed that was to be trained.
        seeds: The seeds that finished, one for each row of `values`.
        values: (seeds, items), the items in the same order in both arms.
    """

    name: str
    planned: tuple[int, ...]
    seeds: tuple[int, ...]
    values: FloatArray


@dataclass(frozen=True)
class Rule:
    """What was declared before the data were seen.

    Attributes:
        margin: Differences smaller than this do not matter, in the metric's unit.
        alpha: Share of false verdicts that is accepted.
    """

    margin: float
    alpha: float = 0.05


@dataclass(frozen=True)
class Verdict:
    """The outcome and the numbers behind it; None where a number cannot be had.

    Attributes:
        outcome: The better arm's name, `equivalent`, `undecided` or `incomplete`.
        difference: First arm minus second; `low` and `high` bound it with confidence 1 - alpha.
        seeds_needed: Fewest seeds that would decide it, as a range.
        reason: Why there is no verdict, or what limits the one there is.
    """

    outcome: str
    form: Form | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    num_seeds: int
    num_items: int
    seeds_needed: tuple[int, int] | None = None
    reason: str | None = None


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
        return _half_width(alpha, self.seed_part, self.seed_df, self.item_part, self.num_items)


def judge(first: Scores, second: Scores, rule: Rule) -> Verdict:
    """Decide between two arms on the declared primary metric.

    Args:
        first: The arm from which the other is subtracted.
        second: The other arm, on the same items.
        rule: The declared margin and alpha.

    Raises:
        ValueError: the tables do not have the same items, fewer than 2 of them, or values that are not finite.
    """
    _check(first, second)
    num_seeds, num_items = min(len(first.seeds), len(second.seeds)), first.values.shape[1]
    if num_seeds < 2:
        difference = float(first.values.mean() - second.values.mean()) if num_seeds else None
        reason = _incomplete(first, second)
        return Verdict(INCOMPLETE, None, difference, None, None, None, num_seeds, num_items, reason=reason)
    estimate = estimate_difference(first, second)
    difference, half = float(estimate.difference), float(estimate.half_width(rule.alpha))
    varies = _varies(estimate, first, second)
    outcome, needed, reason = _decide(first, second, rule, estimate, varies=varies)
    return Verdict(
        outcome=outcome,
        form=estimate.form,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p_value(estimate) if varies else None,
        num_seeds=num_seeds,
        num_items=num_items,
        seeds_needed=needed,
        reason=reason,
    )


def estimate_difference(first: Scores, second: Scores) -> Estimate:
    """The difference in the form that is fixed before looking: paired from 5 seeds on if none is missing, else Welch."""
    complete = set(first.seeds) == set(second.seeds) == set(first.planned) == set(second.planned)
    if complete and len(first.seeds) >= PAIRED_FROM:
        order = [second.seeds.index(seed) for seed in first.seeds]
        return paired(first.values, second.values[order])
    return welch(first.values, second.values)


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


def item_interval(scores: FloatArray, alpha: float) -> tuple[float, float]:
    """Student's interval for one model's mean over other items; `scores` is (items,), at least 2."""
    half = float(stats.t.isf(alpha / 2, len(scores) - 1)) * float(scores.std(ddof=1)) / math.sqrt(len(scores))
    return float(scores.mean()) - half, float(scores.mean()) + half


def p_value(estimate: Estimate) -> float:
    """The alpha at which the interval just reaches 0, found by bisection."""
    distance = abs(float(estimate.difference))
    if distance == 0:
        return 1.0

    def excess(log_alpha: float) -> float:
        return float(estimate.half_width(math.exp(log_alpha))) - distance

    if excess(_SMALLEST_LOG_P) <= 0:
        return math.exp(_SMALLEST_LOG_P)
    return math.exp(optimize.bisect(excess, _SMALLEST_LOG_P, 0.0, xtol=1e-12))


def seeds_needed(estimate: Estimate, rule: Rule) -> tuple[int, int] | None:
    """Fewest seeds, more than there are, at which a true difference of the margin is found with a power of 80 %.

    Returns:
        With the seed variance as estimated, and with its upper 80 % bound; None where no number of seeds
        would do: then only more items help.
    """
    df = float(estimate.seed_df)
    inflation = df / float(stats.chi2.ppf(0.2, df))
    low, high = (_fewest_seeds(estimate, rule, factor) for factor in (1.0, inflation))
    return None if low is None or high is None else (low, high)


def _fewest_seeds(estimate: Estimate, rule: Rule, factor: float) -> int | None:
    seeds = np.arange(max(estimate.num_seeds + 1, MIN_SEEDS), MOST_SEEDS + 1, dtype=np.float64)
    seed_part = factor * estimate.seed_variance / seeds
    # From 5 seeds on the run will be judged by the paired form; below, Welch's df grow with the seeds.
    welch_df = estimate.seed_df / (estimate.num_seeds - 1) * (seeds - 1)
    df = np.where(seeds >= PAIRED_FROM, seeds - 1, welch_df)
    half = _half_width(rule.alpha, seed_part, df, estimate.item_part, estimate.num_items)
    enough = half + _POWER_80 * np.sqrt(seed_part + estimate.item_part) < rule.margin
    return int(seeds[np.argmax(enough)]) if enough.any() else None


def _half_width(
    alpha: float, seed_part: FloatArray, seed_df: FloatArray, item_part: FloatArray, num_items: int
) -> FloatArray:
    by_seeds = stats.t.isf(alpha / 2, seed_df) ** 2 * seed_part
    by_items = stats.t.isf(alpha / 2, num_items - 1) ** 2 * item_part
    return np.asarray(np.sqrt(by_seeds + by_items), dtype=np.float64)


def _decide(
    first: Scores, second: Scores, rule: Rule, estimate: Estimate, *, varies: bool
) -> tuple[str, tuple[int, int] | None, str | None]:
    """Outcome, seeds needed and reason of a comparison with at least 2 seeds in each arm."""
    incomplete = _incomplete(first, second)
    if incomplete:
        return INCOMPLETE, None, incomplete
    if not varies:
        return UNDECIDED, None, "the seeds do not differ at all, so nothing can be said of other seeds"
    distance = abs(float(estimate.difference))
    excludes_zero = distance > float(estimate.half_width(rule.alpha))
    # Two one-sided tests at alpha each: the interval of 1 - 2 alpha lies within the margin.
    if distance + float(estimate.half_width(2 * rule.alpha)) < rule.margin:
        return EQUIVALENT, None, "a difference is detectable, but below the margin" if excludes_zero else None
    if excludes_zero:
        return (first.name if float(estimate.difference) > 0 else second.name), None, None
    needed = seeds_needed(estimate, rule)
    reason = None if needed else "more items are needed: no number of seeds would decide it with these"
    return UNDECIDED, needed, reason


def _incomplete(first: Scores, second: Scores) -> str | None:
    """Why the two arms cannot be judged, if so."""
    lost = [sorted(set(arm.planned) - set(arm.seeds)) for arm in (first, second)]
    if lost[0] != lost[1]:
        told = (
            f"{arm.name} lacks seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
            for arm, seeds in zip((first, second), lost, strict=True)
            if seeds
        )
        return f"failures differ between the arms: {'; '.join(told)}"
    if len(first.seeds) < MIN_SEEDS:
        return f"a verdict needs at least {MIN_SEEDS} seeds in each arm, there are {len(first.seeds)}"
    return None


def _varies(estimate: Estimate, first: Scores, second: Scores) -> bool:
    largest = max(float(np.abs(first.values).max()), float(np.abs(second.values).max()))
    return math.sqrt(float(estimate.seed_part)) > _ROUNDING * largest


def _check(first: Scores, second: Scores) -> None:
    for arm in (first, second):
        if (
            arm.values.ndim != 2
            or len(arm.seeds) != arm.values.shape[0]
            or not set(arm.seeds) <= set(arm.planned)
        ):
            raise ValueError(
                f"{arm.name}: values must be (seeds, items), a row for each of its planned seeds"
            )
        if not np.isfinite(arm.values).all():
            raise ValueError(f"{arm.name}: values must be finite")
    if first.values.shape[1] != second.values.shape[1]:
        raise ValueError(f"{first.name} and {second.name} must be scored on the same items")
    if first.values.shape[1] < 2 and min(len(first.seeds), len(second.seeds)) > 0:
        raise ValueError("a verdict needs at least 2 items")
