"""What training each model cost: sums over its stages, maxima of peaks, means over seeds, ratios between arms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from harness.plan import Trial
from harness.records import Cost, Missing
from harness.results import Results
from harness.summary_schema import CostQuantity, CostRatio, CostSummary, KindCost, SeedCost
from pipelines.stages import ReferenceOutcome, TrainOutcome

SECONDS_PER_HOUR = 3600
MEASURED: tuple[CostQuantity, ...] = (
    "train_seconds",
    "total_seconds",
    "peak_memory_bytes",
    "peak_device_memory_bytes",
    "num_policy_tokens",
)


def cost_of(results: Results, trials: list[Trial]) -> CostSummary:
    """The cost of one model's training; of the base, which is not trained, nothing."""
    by_seed = [cost for trial in trials if (cost := cost_of_trial(results, trial)) is not None]
    untrained = not any(trial.training for trial in trials)
    price = results.plan.comparison.price_per_hour
    total = _mean([cost.total_seconds for cost in by_seed], untrained=untrained)
    return CostSummary(
        train_seconds=_mean([cost.train_seconds for cost in by_seed], untrained=untrained),
        total_seconds=total,
        shared_seconds=_mean(_shared_seconds(results, trials), untrained=untrained),
        peak_memory_bytes=max((cost.peak_memory_bytes for cost in by_seed), default=None),
        peak_memory_kind=next((cost.peak_memory_kind for cost in _costs(results, trials)), None),
        peak_device_memory_bytes=_device_peak(_costs(results, trials)),
        num_pairs_seen=_mean([cost.num_pairs_seen for cost in by_seed], untrained=untrained),
        num_policy_tokens=_mean([cost.num_policy_tokens for cost in by_seed], untrained=untrained),
        num_reference_tokens=_mean([cost.num_reference_tokens for cost in by_seed], untrained=untrained),
        money=None if price is None or total is None else total / SECONDS_PER_HOUR * price,
        currency=results.plan.comparison.currency,
        by_seed=by_seed,
    )


def cost_ratios(
    results: Results, first: CostSummary, second: CostSummary, *, alpha: float
) -> list[CostRatio]:
    """First over second in each cost that was measured, paired by seed; money only where it has a price.

    Args:
        results: What the run left; it knows the price.
        first: Above the line.
        second: Below it.
        alpha: Of the t interval over seeds on the log scale.

    Returns:
        Nothing where no seed finished in both arms.
    """
    fields: dict[CostQuantity, str] = {name: name for name in MEASURED}
    if results.plan.comparison.price_per_hour:
        # Both are paid by the same hour, so their ratio is that of the seconds paid for.
        fields["money"] = "total_seconds"
    found = (_ratio(quantity, field, first, second, alpha) for quantity, field in fields.items())
    return [ratio for ratio in found if ratio is not None]


def _ratio(
    quantity: CostQuantity, field: str, first: CostSummary, second: CostSummary, alpha: float
) -> CostRatio | None:
    of_first, of_second = (
        {cost.seed: value for cost in model.by_seed if (value := getattr(cost, field))}
        for model in (first, second)
    )
    found = log_ratio(of_first, of_second, alpha)
    if found is None:
        return None
    (ratio, low, high), num_seeds = found
    return CostRatio(quantity=quantity, ratio=ratio, low=low, high=high, num_seeds=num_seeds)


def log_ratio(
    first: Mapping[int, float], second: Mapping[int, float], alpha: float
) -> tuple[tuple[float, float | None, float | None], int] | None:
    """The geometric mean over seeds of first over second, its t interval on the log scale, and the number of seeds.

    Args:
        first: Seed to a value above 0.
        second: The same; only seeds of both count.
        alpha: Of the interval; with a single seed there is none.

    Returns:
        None where no seed is in both.
    """
    common = sorted(set(first) & set(second))
    if not common:
        return None
    logs = np.log([first[seed] / second[seed] for seed in common])
    middle = float(logs.mean())
    if len(common) < 2:
        return (math.exp(middle), None, None), 1
    half = float(stats.t.isf(alpha / 2, len(common) - 1)) * float(logs.std(ddof=1)) / math.sqrt(len(common))
    return (math.exp(middle), math.exp(middle - half), math.exp(middle + half)), len(common)


def spent(results: Results) -> list[KindCost]:
    """What the whole run took by kind of stage, each distinct stage counted once, failed ones too."""
    found: dict[str, list[float]] = {}
    for stage in results.plan.stages:
        record = results.records.get(stage.id)
        if record is not None and record.cost is not None:
            found.setdefault(stage.kind, []).append(record.cost.total_seconds)
    return [
        KindCost(kind=kind, num_stages=len(seconds), total_seconds=math.fsum(seconds))
        for kind, seconds in found.items()
    ]


def cost_of_trial(results: Results, trial: Trial) -> SeedCost | None:
    """What a trial cost; None where a training stage is not done: half a trial has no cost to compare."""
    records = [results.done(stage_id) for stage_id in trial.billed()]
    if trial.seed is None or not records:
        return None
    costs, outcomes = [], []
    for record in records:
        if record is None or record.cost is None:
            return None
        assert isinstance(record.outcome, TrainOutcome | ReferenceOutcome)
        costs.append(record.cost)
        outcomes.append(record.outcome)
    trained = [outcome for outcome in outcomes if isinstance(outcome, TrainOutcome)]
    return SeedCost(
        seed=trial.seed,
        train_seconds=math.fsum(cost.train_seconds for cost in costs),
        total_seconds=math.fsum(cost.billed_seconds for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_device_memory_bytes=device if isinstance(device := _device_peak(costs), int) else None,
        num_pairs_seen=sum(outcome.num_pairs_seen for outcome in trained),
        num_policy_tokens=sum(outcome.num_policy_tokens for outcome in trained),
        num_reference_tokens=sum(outcome.num_reference_tokens for outcome in outcomes),
    )


def _shared_seconds(results: Results, trials: list[Trial]) -> list[float]:
    """For each trial that finished, its stages' seconds, each split evenly between the trials that it serves."""
    return [
        math.fsum(
            record.cost.billed_seconds / results.served[stage_id]
            for stage_id in trial.billed()
            if (record := results.done(stage_id)) and record.cost
        )
        for trial in trials
        if cost_of_trial(results, trial) is not None
    ]


def _costs(results: Results, trials: list[Trial]) -> list[Cost]:
    records = (results.done(stage_id) for trial in trials for stage_id in trial.billed())
    return [record.cost for record in records if record is not None and record.cost is not None]


def _device_peak(costs: list[Cost]) -> int | Missing:
    peaks = [cost.peak_device_memory_bytes for cost in costs]
    missing = next((peak for peak in peaks if isinstance(peak, Missing)), None)
    if missing is not None or not peaks:
        return missing or Missing(reason="no training stage finished")
    return max(peak for peak in peaks if isinstance(peak, int))


def _mean(values: list[float], *, untrained: bool) -> float | None:
    if not values:
        return 0.0 if untrained else None
    return math.fsum(values) / len(values)


def cost_with_bounds(
    cost: CostSummary, quantity: CostQuantity
) -> tuple[float | None, float | None, float | None]:
    """A model's cost with Student's 95 % interval over seeds; without one for a peak, a maximum, or a single seed."""
    if quantity == "peak_memory_bytes":
        return cost.peak_memory_bytes, None, None
    field = "total_seconds" if quantity == "money" else "train_seconds"
    mean = cost.money if quantity == "money" else cost.train_seconds
    seconds = [float(getattr(seed, field)) for seed in cost.by_seed]
    if mean is None or len(seconds) < 2:
        return mean, None, None
    deviation = float(np.std(seconds, ddof=1)) / math.sqrt(len(seconds))
    price = mean / math.fsum(seconds) * len(seconds)  # per second; 1 where the quantity is seconds
    half = price * deviation * float(stats.t.isf(0.025, len(seconds) - 1))
    return mean, mean - half, mean + half
