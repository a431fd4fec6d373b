"""A sweep's points: expanded from the config, chosen from on validation items. The report's seeds are fresh ones.

Choosing and reporting on the same seeds would flatter whichever arm has more luck, and so would choosing on test items.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from harness.config import ArmStage, ArmSweep, Comparison, RandomPoints
from harness.overrides import put, value_at

if TYPE_CHECKING:
    from harness.items import Column
    from harness.plan import Plan, Trial
    from harness.records import Record

SIGNIFICANT_DIGITS = 3  # of random values: a value that people read is the one that is run


@dataclass(frozen=True)
class Point:
    """One setting of one arm.

    Attributes:
        name: The arm's name and the point's number, such as `orpo@2`; no arm can be called so.
        changes: Key within the arm to value, for every key that some point of the arm changes: where this one leaves it as the
            arm has it, the arm's own value, None if it has none.
        recipe: The arm's stages with the changes made.
    """

    arm: str
    number: int
    changes: Mapping[str, Any]
    recipe: list[ArmStage]

    @property
    def name(self) -> str:
        """Of its trials."""
        return f"{self.arm}@{self.number}"


def points_of(comparison: Comparison, arm: str) -> list[Point]:
    """The points of an arm in the order of the config; none if it is not swept.

    Raises:
        UserError: a key does not lead into the arm.
        pydantic.ValidationError: a point is no list of stages.
    """
    if comparison.sweep is None or arm not in comparison.sweep.arms:
        return []
    changes = _changes(comparison.sweep.arms[arm])
    recipes = [_changed(comparison.arms[arm], change, f"sweep.arms.{arm}") for change in changes]
    own = _content(comparison.arms[arm])
    unchanged = {key: value_at(own, key.split(".")) for change in changes for key in change}
    return [
        Point(arm, number, {**unchanged, **change}, recipe)
        for number, (change, recipe) in enumerate(zip(changes, recipes, strict=True))
    ]


def sweep_metric(comparison: Comparison) -> str:
    """The metric that chooses."""
    assert comparison.sweep is not None
    return comparison.sweep.metric or comparison.decision.metric


def choose(
    plan: Plan, records: Mapping[str, Record], items: Mapping[str, Mapping[str, Column]]
) -> dict[str, int]:
    """The best point of each arm whose points have all ended: the highest mean over seeds, the first of equals.

    A point that failed on some seed is not chosen: the seeds that it lost may be its worst.

    Args:
        plan: Of a comparison with a sweep.
        records: By stage id; of what has run so far.
        items: By stage id: the metrics of the points' finished evaluations, item by item.
    """
    chosen: dict[str, int] = {}
    for arm in plan.comparison.arms:
        trials = [
            trial for trial in plan.trials if trial.role == "point" and trial.name.startswith(f"{arm}@")
        ]
        if not trials or not all(_has_ended(trial, records) for trial in trials):
            continue
        means = {
            point.number: mean
            for point in points_of(plan.comparison, arm)
            if (mean := _mean(plan.comparison, [t for t in trials if t.name == point.name], items))
            is not None
        }
        if means:
            chosen[arm] = max(means, key=lambda number: (means[number], -number))
    return chosen


def still_to_choose(plan: Plan) -> Iterator[str]:
    """Sentences on the trials that a plan lacks because no point was chosen yet."""
    comparison = plan.comparison
    for arm in comparison.sweep.arms if comparison.sweep else ():
        if arm not in plan.chosen and any(trial.name.startswith(f"{arm}@") for trial in plan.trials):
            yield (
                f"{arm} on {comparison.seeds} fresh seeds, at the point of {len(points_of(comparison, arm))} that "
                f"{sweep_metric(comparison)} chooses on the validation split"
            )


def _changes(swept: ArmSweep) -> list[dict[str, Any]]:
    if swept.random is not None:
        return list(_drawn(swept.random))
    if swept.points:
        return swept.points
    return [dict(zip(swept.grid, values, strict=True)) for values in product(*swept.grid.values())]


def _drawn(wanted: RandomPoints) -> Iterator[dict[str, float]]:
    generator = random.Random(wanted.seed)
    for _ in range(wanted.num_points):
        point = {}
        for key, span in wanted.keys.items():
            if span.scale == "log":
                value = math.exp(generator.uniform(math.log(span.low), math.log(span.high)))
            else:
                value = generator.uniform(span.low, span.high)
            point[key] = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        yield point


def _changed(recipe: list[ArmStage], changes: Mapping[str, Any], where: str) -> list[ArmStage]:
    content = _content(recipe)
    for key, value in changes.items():
        put(content, key.split("."), value, f"{where}: {key}")
    return _recipes().validate_json(json.dumps(content), strict=True)


def _content(recipe: list[ArmStage]) -> list[dict[str, Any]]:
    return [stage.model_dump(mode="json", exclude_unset=True) for stage in recipe]


@cache
def _recipes() -> TypeAdapter[list[ArmStage]]:
    return TypeAdapter(list[ArmStage])


def _has_ended(trial: Trial, records: Mapping[str, Record]) -> bool:
    stages = [records.get(stage_id) for stage_id in trial.stages()]
    return all(stages) or any(record is not None and record.status != "done" for record in stages)


def _mean(
    comparison: Comparison, trials: list[Trial], items: Mapping[str, Mapping[str, Column]]
) -> float | None:
    """The mean over seeds, turned so that more is better; None where a seed has none.

    Items from one prompt are averaged first, as in the summary and the verdict: an `outcome.means` is over items.
    """
    from harness.intervals import cluster_means
    from harness.metrics import metric

    name = sweep_metric(comparison)
    values = []
    for trial in trials:
        columns = [items[stage_id] for stage_id in trial.evaluations if stage_id in items]
        found = [column[name] for column in columns if name in column]
        if not found:
            return None
        units = cluster_means(found[0].values, found[0].clusters)
        values.append(math.fsum(units) / len(units))
    return math.fsum(values) / len(values) * (-1 if metric(name).direction == "lower" else 1)
