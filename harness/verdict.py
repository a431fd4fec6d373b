"""How a verdict is reached from two tables of scores (seeds x items). Knows nothing of training.

The interval is that of harness/intervals.py; docs/decisions/verdict.md says how often verdicts were wrong in simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.intervals import Estimate, FloatArray, Form, half_width, p_value, paired, welch
from harness.quantiles import chi_square_below

MIN_SEEDS = 3  # for a verdict; an interval needs 2
PAIRED_FROM = 5
MOST_SEEDS = 10_000  # beyond it the advice is "more items"
EQUIVALENT, UNDECIDED, UNFAIR, INCOMPLETE = "equivalent", "undecided", "unfair", "incomplete"
SAME_SCORES = "both have the same score on every item of every seed: this metric does not tell them apart"

_POWER_80 = 0.84  # standard errors to add for a power of 80 %
_ROUNDING = 1e-9  # what is at most this share of the largest score is 0


@dataclass(frozen=True)
class Scores:
    """One arm's scores on the primary metric, more being better.

    Attributes:
        name: The arm's name.
        planned: Every seed that was to be trained.
        seeds: The seeds that finished, one for each row of `values`.
        values: (seeds, items), the items in the same order in both arms; items that belong together are averaged
            before (`intervals.cluster_means`). `judge` takes any numbers: integers, booleans, lists.
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

    Raises:
        ValueError: a margin that is not a finite number above 0, or an alpha that is not between 0 and 0.5.
    """

    margin: float
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin: must be a finite number above 0, got {self.margin}")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha: must be between 0 and 0.5, got {self.alpha}")


@dataclass(frozen=True)
class Verdict:
    """The outcome and the numbers behind it; None where a number cannot be had.

    Attributes:
        outcome: The better arm's name, `equivalent`, `undecided` or `incomplete`. (An audit may make it `unfair`.)
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


def judge(first: Scores, second: Scores, rule: Rule) -> Verdict:
    """Decide between two arms on the declared primary metric.

    Args:
        first: The arm from which the other is subtracted.
        second: The other arm, on the same items.
        rule: The declared margin and alpha.

    Raises:
        ValueError: a table that is not one of finite numbers with a row for each seed, a seed twice, tables without
            the same items, or fewer than 2 items.
    """
    first, second = _checked(first), _checked(second)
    _check_items(first, second)
    num_seeds, num_items = min(len(first.seeds), len(second.seeds)), first.values.shape[1]
    if num_seeds < 2:
        difference = float(first.values.mean() - second.values.mean()) if num_seeds else None
        reason = _incomplete(first, second)
        return Verdict(INCOMPLETE, None, difference, None, None, None, num_seeds, num_items, reason=reason)
    estimate = estimate_difference(first, second)
    difference, half = float(estimate.difference), float(estimate.half_width(rule.alpha))
    unvaried = no_spread(estimate, first, second)
    outcome, needed, reason = _decide(first, second, rule, estimate, unvaried)
    return Verdict(
        outcome=outcome,
        form=estimate.form,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=None if unvaried else p_value(estimate),
        num_seeds=num_seeds,
        num_items=num_items,
        seeds_needed=needed,
        reason=reason,
    )


def estimate_difference(first: Scores, second: Scores) -> Estimate:
    """The difference in the form that is fixed before looking: paired from 5 seeds on if none is missing, else Welch."""
    complete = set(first.seeds) == set(second.seeds) == set(first.planned) == set(second.planned)
    if complete and len(first.seeds) >= PAIRED_FROM:
        return paired(first.values, _in_order_of(first, second))
    return welch(first.values, second.values)


def no_spread(estimate: Estimate, first: Scores, second: Scores) -> str | None:
    """Why nothing can be said of other seeds; None where the scores vary from seed to seed.

    Args:
        estimate: Of these two.
        first: One model.
        second: The other; a single row without a seed is one that all seeds share.
    """
    differences = _differences(first, second)
    if differences is not None and _is_rounding(np.ptp(differences), first.values, second.values):
        if _is_rounding(np.abs(differences).max(), first.values, second.values):
            return SAME_SCORES
        return "the difference is the same on every item of every seed, so nothing can be said of others"
    if varies(estimate, first.values, second.values):
        return None
    return "the difference of the means is the same in every seed, so nothing can be said of other seeds"


def _differences(first: Scores, second: Scores) -> FloatArray | None:
    """Row s is seed s; None where the two do not have the same seeds."""
    if not second.seeds:
        return first.values - second.values
    if set(first.seeds) != set(second.seeds):
        return None
    return first.values - _in_order_of(first, second)


def _in_order_of(first: Scores, second: Scores) -> FloatArray:
    return second.values[places(second.seeds, first.seeds)]


def places(seeds: Sequence[int | None], wanted: Sequence[int | None]) -> list[int]:
    """The rows of the seeds that are wanted, in a table that has these seeds."""
    place = {seed: row for row, seed in enumerate(seeds)}
    return [place[seed] for seed in wanted]


def varies(estimate: Estimate, *tables: FloatArray) -> bool:
    """Whether the means of the seeds differ.

    Args:
        estimate: From `tables`, one replication.
        tables: Their largest value says what is rounding.
    """
    return not _is_rounding(math.sqrt(float(estimate.seed_part)), *tables)


def _is_rounding(value: float, *tables: FloatArray) -> bool:
    return value <= _ROUNDING * max(float(np.abs(table).max()) for table in tables)


def seeds_needed(estimate: Estimate, rule: Rule) -> tuple[int, int] | None:
    """Fewest seeds, more than there are, at which a true difference of the margin is found with a power of 80 %.

    Returns:
        With the seed variance as estimated, and with its upper 80 % bound; None where no number of seeds
        would do: then only more items help.
    """
    df = float(estimate.seed_df)
    inflation = df / chi_square_below(0.2, df)
    low, high = (_fewest_seeds(estimate, rule, factor) for factor in (1.0, inflation))
    return None if low is None or high is None else (low, high)


def findable(estimate: Estimate, alpha: float) -> FloatArray:
    """The true difference that these seeds and items find at `alpha` with a power of 80 %.

    A true difference of half the interval's width alone is found about every second time.
    """
    error = np.sqrt(estimate.seed_part + estimate.item_part)
    return np.asarray(estimate.half_width(alpha) + _POWER_80 * error, dtype=np.float64)


def _fewest_seeds(estimate: Estimate, rule: Rule, factor: float) -> int | None:
    first = max(estimate.num_seeds + 1, MIN_SEEDS)
    for start, stop in ((first, first + 64), (first + 64, MOST_SEEDS)):  # nearly always within the first few
        seeds = np.arange(start, stop, dtype=np.float64)
        seed_part = factor * estimate.seed_variance / seeds
        # From 5 seeds on the run will be judged by the paired form; below, Welch's df grow with the seeds.
        welch_df = estimate.seed_df / (estimate.num_seeds - 1) * (seeds - 1)
        df = np.where(seeds >= PAIRED_FROM, seeds - 1, welch_df)
        half = half_width(rule.alpha, seed_part, df, estimate.item_part, estimate.num_items)
        enough = half + _POWER_80 * np.sqrt(seed_part + estimate.item_part) < rule.margin
        if enough.any():
            return int(seeds[np.argmax(enough)])
    return None


def _decide(
    first: Scores, second: Scores, rule: Rule, estimate: Estimate, unvaried: str | None
) -> tuple[str, tuple[int, int] | None, str | None]:
    """Outcome, seeds needed and reason of a comparison with at least 2 seeds in each arm."""
    incomplete = _incomplete(first, second)
    if incomplete:
        return INCOMPLETE, None, incomplete
    if unvaried:
        return UNDECIDED, None, unvaried
    distance = abs(float(estimate.difference))
    excludes_zero = distance > float(estimate.half_width(rule.alpha))
    # Two one-sided tests at alpha each: the interval of 1 - 2 alpha lies within the margin.
    if distance + float(estimate.half_width(2 * rule.alpha)) < rule.margin:
        return EQUIVALENT, None, "a difference is detectable, but below the margin" if excludes_zero else None
    if excludes_zero:
        winner = first.name if float(estimate.difference) > 0 else second.name
        return winner, None, _too_small(distance, rule)
    needed = seeds_needed(estimate, rule)
    reason = None if needed else "more items are needed: no number of seeds would decide it with these"
    return UNDECIDED, needed, reason


def _too_small(distance: float, rule: Rule) -> str | None:
    """What limits a "better" whose size may not matter."""
    return f"the estimate lies below the margin of {rule.margin:g}" if distance < rule.margin else None


def _incomplete(first: Scores, second: Scores) -> str | None:
    """Why the two arms cannot be judged, if so."""
    unequal = unequal_failures(first, second)
    if unequal:
        return unequal
    if len(first.seeds) < MIN_SEEDS:
        return f"a verdict needs at least {MIN_SEEDS} seeds in each arm, there are {len(first.seeds)}"
    return None


def unequal_failures(first: Scores, second: Scores) -> str | None:
    """Which seeds each arm lacks, where these are not the same: "better" is then withheld. None where they are."""
    lost = [sorted(set(arm.planned) - set(arm.seeds)) for arm in (first, second)]
    if lost[0] == lost[1]:
        return None
    told = (
        f"{arm.name} lacks seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        for arm, seeds in zip((first, second), lost, strict=True)
        if seeds
    )
    return f"failures differ between the arms: {'; '.join(told)}"


def _checked(arm: Scores) -> Scores:
    """The same with float64 values: differences of unsigned integers wrap, and booleans have none."""
    try:
        values = np.asarray(arm.values)
    except ValueError:  # rows of unequal length
        values = np.empty(0)
    if values.ndim != 2 or len(arm.seeds) != values.shape[0] or not set(arm.seeds) <= set(arm.planned):
        raise ValueError(f"{arm.name}: values must be (seeds, items), a row for each of its planned seeds")
    if len(set(arm.seeds)) < len(arm.seeds):
        raise ValueError(f"{arm.name}: a seed must be there once, got {', '.join(map(str, arm.seeds))}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{arm.name}: values must be numbers, got {values.dtype}")
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{arm.name}: values must be finite")
    return replace(arm, values=numbers)


def _check_items(first: Scores, second: Scores) -> None:
    if first.values.shape[1] != second.values.shape[1]:
        raise ValueError(f"{first.name} and {second.name} must be scored on the same items")
    if first.values.shape[1] < 2 and min(len(first.seeds), len(second.seeds)) > 0:
        raise ValueError("a verdict needs at least 2 items")
