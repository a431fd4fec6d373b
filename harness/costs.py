"""What training each model cost: sums over its stages, maxima of peaks, means over seeds, ratios between arms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.cost_schema import CostQuantity, CostRatio, CostSummary, KindCost, SeedCost
from harness.plan import Trial
from harness.quantiles import t_above
from harness.records import Cost, Missing, Record, total
from harness.results import Results
from harness.throughput import operations, peak_share, tokens_per_second
from pipelines.outcomes import ReferenceOutcome, TrainOutcome
from pipelines.stages import LARGEST_VALUE

SECONDS_PER_HOUR = 3600
LARGEST_LOG = 700.0  # of a ratio: its exponential, and that one's inverse, are still numbers
MEASURED: tuple[CostQuantity, ...] = (
    "train_seconds",
    "total_seconds",
    "peak_memory_bytes",
    "peak_device_memory_bytes",
    "num_policy_tokens",
    "energy_joules",
)
# What other stages at the same time stretch.
BY_THE_CLOCK: tuple[CostQuantity, ...] = ("train_seconds", "total_seconds", "money")


def cost_of(results: Results, trials: list[Trial]) -> CostSummary:
    """The cost of one model's training; of the base, which is not trained, nothing."""
    costs = [(trial, cost) for trial in trials if (cost := cost_of_trial(results, trial)) is not None]
    finished, by_seed = [trial for trial, _ in costs], [cost for _, cost in costs]
    untrained = not any(trial.training for trial in trials)
    price = results.plan.comparison.price_per_hour
    seconds = _mean([cost.total_seconds for cost in by_seed], untrained=untrained)
    shared = _mean(_shared(results, finished, _seconds), untrained=untrained)
    records = _billed(results, finished)
    done = operations(records)
    return CostSummary(
        train_seconds=_mean([cost.train_seconds for cost in by_seed], untrained=untrained),
        total_seconds=seconds,
        shared_seconds=shared,
        peak_memory_bytes=max((cost.peak_memory_bytes for cost in by_seed), default=None),
        peak_memory_kind=next((record.cost.peak_memory_kind for record in records if record.cost), None),
        peak_device_memory_bytes=_device_peak([record.cost for record in records if record.cost]),
        num_pairs_seen=_mean([cost.num_pairs_seen for cost in by_seed], untrained=untrained),
        num_policy_tokens=_mean([cost.num_policy_tokens for cost in by_seed], untrained=untrained),
        num_reference_tokens=_mean([cost.num_reference_tokens for cost in by_seed], untrained=untrained),
        steady_train_seconds=_mean([cost.steady_train_seconds for cost in by_seed]),
        waiting_seconds=_mean([cost.waiting_seconds for cost in by_seed]),
        energy_joules=_mean_energy([record.cost for record in records if record.cost], len(by_seed)),
        shared_energy_joules=_mean(_shared(results, finished, _joules)),
        tokens_per_second=tokens_per_second(records),
        operations=done / len(by_seed) if isinstance(done, float) and by_seed else done,
        peak_share=peak_share(records),
        money=None if price is None or seconds is None else seconds / SECONDS_PER_HOUR * price,
        shared_money=None if price is None or shared is None else shared / SECONDS_PER_HOUR * price,
        currency=results.plan.comparison.currency,
        relaxed=any(record.cost.workers > 1 for record in records if record.cost),
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
    relaxed = quantity in BY_THE_CLOCK and (first.relaxed or second.relaxed)
    resident = quantity == "peak_memory_bytes" and "resident" in (
        first.peak_memory_kind,
        second.peak_memory_kind,
    )
    return CostRatio(
        quantity=quantity,
        ratio=ratio,
        low=low,
        high=high,
        num_seeds=num_seeds,
        relaxed=relaxed,
        resident=resident,
    )


def log_ratio(
    first: Mapping[int, float], second: Mapping[int, float], alpha: float
) -> tuple[tuple[float, float | None, float | None], int] | None:
    """The geometric mean over seeds of first over second, its t interval on the log scale, and the number of seeds.

    Args:
        first: Seed to a value above 0.
        second: The same; only seeds of both count, and none whose value is next to nothing.
        alpha: Of the interval; with a single seed there is none. A bound that float64 cannot hold is cut far beyond
            anything that can be said of a ratio.

    Returns:
        None where no seed is in both.
    """
    common = sorted(
        seed for seed in set(first) & set(second) if min(first[seed], second[seed]) > 1 / LARGEST_VALUE
    )
    if not common:
        return None
    logs = np.log([first[seed] / second[seed] for seed in common])
    middle = float(logs.mean())
    if len(common) < 2:
        return (math.exp(middle), None, None), 1
    half = float(t_above(alpha / 2, len(common) - 1)) * float(logs.std(ddof=1)) / math.sqrt(len(common))
    low, high = max(middle - half, -LARGEST_LOG), min(middle + half, LARGEST_LOG)
    return (math.exp(middle), math.exp(low), math.exp(high)), len(common)


def spent(results: Results) -> list[KindCost]:
    """What the whole run took by kind of stage, each distinct stage counted once, failed ones too."""
    found: dict[str, list[Cost]] = {}
    for stage in results.plan.stages:
        record = results.records.get(stage.id)
        if record is not None and record.cost is not None:
            found.setdefault(stage.kind, []).append(record.cost)
    return [
        KindCost(
            kind=kind,
            num_stages=len(costs),
            total_seconds=math.fsum(cost.total_seconds for cost in costs),
            look_seconds=math.fsum(cost.total_seconds - cost.billed_seconds for cost in costs),
        )
        for kind, costs in found.items()
    ]


def cost_of_trial(results: Results, trial: Trial) -> SeedCost | None:
    """What a trial cost; None where a training stage is not done: half a trial has no cost to compare."""
    found = [results.done(stage_id) for stage_id in trial.billed()]
    records = [record for record in found if record is not None and record.cost is not None]
    if trial.seed is None or not found or len(records) < len(found):
        return None
    costs = [record.cost for record in records if record.cost is not None]
    outcomes = [record.outcome for record in records]
    trained = [outcome for outcome in outcomes if isinstance(outcome, TrainOutcome)]
    energy = total(cost.energy_joules for cost in costs)
    warm_up, waiting = (
        [getattr(record.cost, name) for record in records if isinstance(record.outcome, TrainOutcome)]
        for name in ("warm_up_seconds", "waiting_seconds")
    )
    train_seconds = math.fsum(cost.train_seconds for cost in costs)
    return SeedCost(
        seed=trial.seed,
        train_seconds=train_seconds,
        total_seconds=math.fsum(cost.billed_seconds for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_device_memory_bytes=device if isinstance(device := _device_peak(costs), int) else None,
        num_pairs_seen=sum(outcome.num_pairs_seen for outcome in trained),
        num_policy_tokens=sum(outcome.num_policy_tokens for outcome in trained),
        num_reference_tokens=sum(
            outcome.num_reference_tokens
            for outcome in outcomes
            if isinstance(outcome, TrainOutcome | ReferenceOutcome)
        ),
        steady_train_seconds=None if None in warm_up else train_seconds - math.fsum(warm_up),
        waiting_seconds=None if None in waiting else math.fsum(waiting),
        energy_joules=energy if isinstance(energy, float) else None,
        tokens_per_second=tokens_per_second(records),
    )


def training_costs(results: Results) -> list[Cost]:
    """Of each finished stage that is on some model's bill, once."""
    ids = dict.fromkeys(
        stage_id for trials in results.models().values() for trial in trials for stage_id in trial.billed()
    )
    found = (results.done(stage_id) for stage_id in ids)
    return [record.cost for record in found if record is not None and record.cost is not None]


def _shared(
    results: Results, trials: list[Trial], amount: Callable[[Cost], float | None]
) -> list[float | None]:
    """For each of these trials, which finished, its stages' amounts, each split evenly between the trials that it serves."""
    found = []
    for trial in trials:
        shares = [
            None if (value := amount(record.cost)) is None else value / results.served[stage_id]
            for stage_id in trial.billed()
            if (record := results.done(stage_id)) and record.cost
        ]
        found.append(None if None in shares else math.fsum(share for share in shares if share is not None))
    return found


def _seconds(cost: Cost) -> float | None:
    return cost.billed_seconds


def _joules(cost: Cost) -> float | None:
    return cost.energy_joules if isinstance(cost.energy_joules, float) else None


def _billed(results: Results, trials: list[Trial]) -> list[Record]:
    """The records of these trials, which finished; a stage that serves two of them comes twice."""
    return [
        record
        for trial in trials
        for stage_id in trial.billed()
        if (record := results.done(stage_id)) is not None
    ]


def _mean_energy(costs: list[Cost], num_seeds: int) -> float | Missing | None:
    """Over seeds, of what all their stages used together."""
    used = total(cost.energy_joules for cost in costs)
    return used / num_seeds if isinstance(used, float) and num_seeds else used


def _device_peak(costs: list[Cost]) -> int | Missing:
    peaks = [cost.peak_device_memory_bytes for cost in costs]
    missing = next((peak for peak in peaks if isinstance(peak, Missing)), None)
    if missing is not None or not peaks:
        return missing or Missing(reason="no training stage finished")
    return max(peak for peak in peaks if isinstance(peak, int))


def _mean(values: Sequence[float | None], *, untrained: bool = False) -> float | None:
    """None where one was not measured."""
    known = [value for value in values if value is not None]
    if not values:
        return 0.0 if untrained else None
    return math.fsum(known) / len(known) if len(known) == len(values) else None


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
    whole = math.fsum(seconds)
    if whole == 0:
        return mean, None, None
    deviation = float(np.std(seconds, ddof=1)) / math.sqrt(len(seconds))
    price = mean / whole * len(seconds)  # per second; 1 where the quantity is seconds
    half = price * deviation * float(t_above(0.025, len(seconds) - 1))
    return mean, mean - half, mean + half
