"""Quality while models train: against what they have spent by then, where the likelihood goes, what a target costs.

A training stage leaves `validation.jsonl`: means over some validation pairs, and over some that are trained on, at each look
(pipelines/training/validation.py). What an arm's earlier stages took is added here, so that SFT then DPO pays for its SFT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.costs import SECONDS_PER_HOUR, log_ratio
from harness.learning_schema import (
    Displacement,
    LearningPoint,
    OverSeeds,
    Reached,
    TargetReached,
    TargetSummary,
)
from harness.metrics import metric
from harness.plan import Trial
from harness.quantiles import t_above
from harness.records import VALIDATION, Record
from harness.results import Results
from pipelines.evaluations import Split
from pipelines.outcomes import ReferenceOutcome, TrainOutcome
from pipelines.stages import TrainSettings

ALPHA = 0.05
PLACES = (
    "step",
    "num_policy_tokens",
    "num_reference_tokens",
    "train_seconds",
    "total_seconds",
    "energy_joules",
    "split",
    "num_pairs",
)
PRICES = ("num_policy_tokens", "train_seconds", "total_seconds", "energy_joules", "money")
DISPLACED = ("chosen_logprob_mean", "rejected_logprob_mean", "preference_margin")


@dataclass(frozen=True)
class Moment:
    """One trial's model at one moment of its training.

    Attributes:
        stage: Place of the stage within the arm, from 1.
        step: Optimizer steps of that stage.
        num_policy_tokens: Those of earlier stages included, as in all that follows.
        means: Split to metric to mean over the split's pairs; what was not finite is not there.
        num_pairs: Of each split.
    """

    stage: int
    step: int
    num_policy_tokens: int
    num_reference_tokens: int
    train_seconds: float
    total_seconds: float
    energy_joules: float | None
    means: dict[Split, dict[str, float]]
    num_pairs: dict[Split, int]

    def value(self, name: str, split: Split = "validation") -> float | None:
        """A metric's mean."""
        return self.means.get(split, {}).get(name)


@dataclass
class _Spent:
    """What a trial has spent before its present stage."""

    num_policy_tokens: int = 0
    num_reference_tokens: int = 0
    train_seconds: float = 0.0
    total_seconds: float = 0.0
    energy_joules: float | None = 0.0

    def add(self, record: Record) -> None:
        assert record.cost is not None
        assert isinstance(record.outcome, TrainOutcome | ReferenceOutcome)
        self.num_policy_tokens += getattr(record.outcome, "num_policy_tokens", 0)
        self.num_reference_tokens += record.outcome.num_reference_tokens
        self.train_seconds += record.cost.train_seconds
        self.total_seconds += record.cost.billed_seconds
        joules = record.cost.energy_joules
        self.energy_joules = _both(self.energy_joules, joules if isinstance(joules, float) else None)


def moments_of(results: Results, trial: Trial) -> list[Moment]:
    """Every look at a trial's model, in order; none unless the trial finished its training."""
    spent = _Spent()
    found: list[Moment] = []
    for place, stage_id in enumerate(trial.training, start=1):
        reference = results.stage(stage_id).inputs.reference
        for needed in (reference, stage_id):
            if needed is not None and ((record := results.done(needed)) is None or record.cost is None):
                return []
        if reference is not None:
            spent.add(results.records[reference])
        found += _moments_of_stage(results, stage_id, place, spent)
        spent.add(results.records[stage_id])
    return found


def learning_points(results: Results, trials: Sequence[Trial]) -> list[LearningPoint]:
    """Means over the seeds of one model, of the looks that all its finished seeds have."""
    by_seed = [looks for trial in trials if (looks := moments_of(results, trial))]
    price = results.plan.comparison.price_per_hour
    points = []
    for looks in _together(by_seed):
        seconds = _mean([look.total_seconds for look in looks])
        points.append(
            LearningPoint(
                stage=looks[0].stage,
                step=looks[0].step,
                num_seeds=len(looks),
                num_policy_tokens=_mean([look.num_policy_tokens for look in looks]),
                num_reference_tokens=_mean([look.num_reference_tokens for look in looks]),
                train_seconds=_mean([look.train_seconds for look in looks]),
                total_seconds=seconds,
                energy_joules=_mean_of_all([look.energy_joules for look in looks]),
                money=None if price is None else seconds / SECONDS_PER_HOUR * price,
                validation=_means(looks, "validation"),
                train=_means(looks, "train"),
            )
        )
    return points


def displacements(results: Results, models: dict[str, list[Trial]]) -> list[Displacement]:
    """For each stage of each arm, each split that was looked at: the change from its first look to its last, over seeds."""
    return [
        found
        for name, trials in models.items()
        if trials[0].role == "arm"
        for by_seed in [[moments_of(results, trial) for trial in trials]]
        for place, stage_id in enumerate(trials[0].training, start=1)
        for split in ("validation", "train", "test")
        for found in _displacement(results, name, by_seed, place, stage_id, split)
    ]


def target_summary(results: Results, models: dict[str, list[Trial]], alpha: float) -> TargetSummary | None:
    """What the declared target cost each arm; None where none is declared."""
    target = results.plan.comparison.target
    if target is None:
        return None
    arms = {
        name: found
        for name, trials in models.items()
        if trials[0].role == "arm" and (found := _reached(results, trials)) is not None
    }
    first, second = (arms.get(name) for name in results.plan.comparison.decision.compare)
    ratio, num_seeds = None, 0
    if first and second and not first.not_reached and not second.not_reached:
        over, under = ({one.seed: one.train_seconds for one in arm.by_seed} for arm in (first, second))
        trained = all(one.num_policy_tokens > 0 for arm in (first, second) for one in arm.by_seed)
        if trained and (paired := log_ratio(over, under, alpha)):
            (mean, low, high), num_seeds = paired
            ratio = OverSeeds(mean=mean, low=low, high=high)
    return TargetSummary(
        metric=target.metric,
        value=target.value,
        direction=metric(target.metric).direction,
        arms=arms,
        ratio=ratio,
        num_seeds=num_seeds,
    )


def over_seeds(values: Sequence[float], alpha: float = ALPHA) -> OverSeeds:
    """The mean with Student's t interval; without one for a single seed."""
    mean, low, high = _mean(values), None, None
    if len(values) > 1:
        half = (
            float(t_above(alpha / 2, len(values) - 1))
            * float(np.std(values, ddof=1))
            / math.sqrt(len(values))
        )
        low, high = mean - half, mean + half
    return OverSeeds(mean=mean, low=low, high=high)


def _moments_of_stage(results: Results, stage_id: str, place: int, spent: _Spent) -> Iterator[Moment]:
    by_step: dict[int, list[dict[str, Any]]] = {}
    for row in results.rows(stage_id, VALIDATION):
        by_step.setdefault(int(row["step"]), []).append(row)
    for step, rows in by_step.items():
        row = rows[0]
        yield Moment(
            stage=place,
            step=step,
            num_policy_tokens=spent.num_policy_tokens + int(row["num_policy_tokens"]),
            num_reference_tokens=spent.num_reference_tokens + int(row["num_reference_tokens"]),
            train_seconds=spent.train_seconds + float(row["train_seconds"]),
            total_seconds=spent.total_seconds + float(row["total_seconds"]),
            energy_joules=_both(spent.energy_joules, row.get("energy_joules")),
            means={
                row["split"]: {
                    name: value
                    for name, value in row.items()
                    if name not in PLACES and isinstance(value, int | float)
                }
                for row in rows
            },
            num_pairs={row["split"]: row["num_pairs"] for row in rows},
        )


def _together(by_seed: list[list[Moment]]) -> Iterator[list[Moment]]:
    """The looks of all seeds at one moment of a stage: its n-th, or where seeds have other numbers of looks, those at one step."""
    for stage in dict.fromkeys(look.stage for looks in by_seed for look in looks):
        own = [[look for look in looks if look.stage == stage] for looks in by_seed]
        if len({len(looks) for looks in own}) == 1:
            yield from (list(looks) for looks in zip(*own, strict=True))
            continue
        held = [{look.step: look for look in looks} for looks in own]
        for step in held[0]:
            if all(step in looks for looks in held):
                yield [looks[step] for looks in held]


def _means(looks: list[Moment], split: Split) -> dict[str, float]:
    names = dict.fromkeys(name for look in looks for name in look.means.get(split, {}))
    values = {name: [look.value(name, split) for look in looks] for name in names}
    return {
        name: _mean([value for value in found if value is not None])
        for name, found in values.items()
        if None not in found
    }


def _displacement(
    results: Results, name: str, by_seed: list[list[Moment]], place: int, stage_id: str, split: Split
) -> Iterator[Displacement]:
    settings = results.stage(stage_id).settings
    assert isinstance(settings, TrainSettings)
    changes: dict[str, list[float]] = {key: [] for key in DISPLACED}
    num_pairs = 0
    for moments in by_seed:
        looks = [look for look in moments if look.stage == place]
        ends = (
            [{key: look.value(key, split) for key in DISPLACED} for look in (looks[0], looks[-1])]
            if looks
            else []
        )
        if not ends or None in (*ends[0].values(), *ends[1].values()):
            continue
        num_pairs = looks[0].num_pairs[split]
        for key in DISPLACED:
            changes[key].append(ends[1][key] - ends[0][key])  # type: ignore[operator]
    if not num_pairs:
        return
    chosen, rejected, margin = (over_seeds(changes[key]) for key in DISPLACED)
    displaced = None
    if chosen.high is not None and margin.low is not None:
        displaced = chosen.high < 0 < margin.low
    yield Displacement(
        model=name,
        stage=place,
        trainer=settings.kind,
        split=split,
        chosen=chosen,
        rejected=rejected,
        margin=margin,
        displaced=displaced,
        num_seeds=len(changes[DISPLACED[0]]),
        num_pairs=num_pairs,
    )


def _reached(results: Results, trials: list[Trial]) -> TargetReached | None:
    target, price = results.plan.comparison.target, results.plan.comparison.price_per_hour
    assert target is not None
    sign = -1.0 if metric(target.metric).direction == "lower" else 1.0
    reached, missed, best = [], [], []
    for trial in trials:
        valued = [
            (look, value)
            for look in moments_of(results, trial)
            if (value := look.value(target.metric)) is not None
        ]
        if not valued or trial.seed is None:
            continue
        best.append(sign * max(sign * value for _, value in valued))
        first = next(((look, value) for look, value in valued if sign * value >= sign * target.value), None)
        if first is None:
            missed.append(trial.seed)
            continue
        look, value = first
        reached.append(
            Reached(
                seed=trial.seed,
                stage=look.stage,
                step=look.step,
                value=value,
                num_policy_tokens=look.num_policy_tokens,
                train_seconds=look.train_seconds,
                total_seconds=look.total_seconds,
                energy_joules=look.energy_joules,
                money=None if price is None else look.total_seconds / SECONDS_PER_HOUR * price,
            )
        )
    if not best:
        return None
    return TargetReached(
        by_seed=reached,
        not_reached=missed,
        best=over_seeds(best),
        **{name: None if missed else _price([getattr(one, name) for one in reached]) for name in PRICES},
    )


def _price(values: Sequence[float | None]) -> OverSeeds | None:
    """Over seeds; None where it was not measured in each."""
    known = [value for value in values if value is not None]
    return over_seeds(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if len(known) == len(values) else None


def _both(first: float | None, second: float | None) -> float | None:
    """The sum of two quantities of which either may not have been measured."""
    return None if first is None or second is None else first + second
