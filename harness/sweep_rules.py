"""Combinations of keys in a sweep that cannot be meant, each with the key to change."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from harness.budget_rules import Broken
from harness.config import ArmStage, Comparison
from harness.config_errors import did_you_mean
from harness.differences import undeclared
from harness.errors import UserError
from harness.measured import measured_by
from harness.metrics import metric
from harness.rules import stage_problems
from harness.sweep import Point, points_of, sweep_metric
from harness.trainer_fields import default_of, objections


def broken_sweep_rules(comparison: Comparison) -> Broken:
    """Every broken rule of `sweep` as (key, the rest of the sentence that begins with it)."""
    sweep = comparison.sweep
    if sweep is None:
        return
    for arm, swept in sweep.arms.items():
        key = f"sweep.arms.{arm}"
        if arm not in comparison.arms:
            yield key, f"must be the name of an arm. {did_you_mean(arm, list(comparison.arms))}"
            return
        ways = [name for name in ("grid", "points", "random") if getattr(swept, name)]
        if len(ways) != 1:
            yield key, f"must have one of grid, points and random, got {' and '.join(ways) or 'none'}."
            return
        empty = [name for name, values in swept.grid.items() if not values]
        if empty:
            yield (
                f"{key}.grid.{empty[0]}",
                "must have at least 1 value, got an empty list: the grid has no point.",
            )
            return
        for name, span in (swept.random.keys if swept.random else {}).items():
            if span.high <= span.low or (span.scale == "log" and span.low <= 0):
                yield (
                    f"{key}.random.keys.{name}.high",
                    f"must be more than low ({span.low:g}), and low more than 0 on a log scale, got {span.high:g}.",
                )
                return
        yield from _points(comparison, arm, key)
    counts = {
        arm: len(points_of(comparison, arm)) or 1
        for arm in comparison.decision.compare
        if arm in comparison.arms
    }
    if len(set(counts.values())) > 1 and not sweep.unequal_effort:
        told = ", ".join(f"{arm} has {count}" for arm, count in counts.items())
        yield (
            "sweep.arms",
            f"must have as many points for each compared arm: {told}. Or say why in sweep.unequal_effort.",
        )
    name = sweep_metric(comparison)
    groups = comparison.evaluations
    chosen_by = [
        group for group in (groups.preference, groups.generation) if group and name in measured_by(group)
    ]
    if not chosen_by:
        yield (
            "sweep.metric",
            f"must be one that preference or generation measures (points are compared on validation pairs), got {name!r}.",
        )
    elif metric(name).direction == "none":
        yield "sweep.metric", f"must have a better direction; neither is better for {name}."
    if not comparison.data.validation_share:
        yield "sweep", "needs validation pairs: data.validation_share must be more than 0."


def _points(comparison: Comparison, arm: str, key: str) -> Broken:
    try:
        points = points_of(comparison, arm)
    except UserError as error:
        yield key, f"must have keys that lead into the arm, such as 0.arguments.beta. {error}"
        return
    except ValidationError as error:
        first = error.errors()[0]
        yield key, f"makes a stage that cannot be: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        return
    for point in points:
        if any(
            _effective(comparison, point) == _effective(comparison, other) for other in points[: point.number]
        ):
            yield (
                key,
                f"must not have a point twice: point {point.number} ({point.changes}) is the same as one before.",
            )
            return
        for index, stage in enumerate(point.recipe):
            problems = [*stage_problems(comparison, stage)]
            problems += [
                (f"arguments.{name}", said) for name, said in objections(stage.trainer, stage.arguments)
            ]
            for name, problem in problems:
                yield f"{key}: {index}.{name}", f"{problem} (point {point.number})"
                return
    yield from _differences(comparison, points)


def _effective(comparison: Comparison, point: Point) -> list[tuple[ArmStage, dict[str, Any]]]:
    """Each stage of a point with what its trainer is given beyond the defaults: two ways to write one point are one."""
    return [
        (
            stage.model_copy(update={"arguments": {}}),
            {
                name: value
                for name, value in {**comparison.training.arguments, **stage.arguments}.items()
                if value != default_of(name)
            },
        )
        for stage in point.recipe
    ]


def _differences(comparison: Comparison, points: list[Point]) -> Broken:
    """Whichever point is chosen, it must not make stages differ that are alike, unless that is declared."""
    known = {found.key for found in undeclared(comparison)}
    for point in points:
        chosen = comparison.model_copy(update={"arms": comparison.arms | {point.arm: point.recipe}})
        for found in undeclared(chosen):
            if found.key not in known:
                yield (
                    f"allow_difference.{found.key}",
                    f"must be given, or sweep.arms.{point.arm} must leave it alone: at point {point.number} "
                    f"{found.told()}.",
                )
                return
