"""The trials that a sweep's choice will call for, which no plan has before its points are judged."""

from __future__ import annotations

from collections.abc import Mapping

from harness.budget import is_converted
from harness.forecast.schema import StageForecast
from harness.plan import Plan
from harness.planning import make_plan
from harness.sweep import points_of


def with_later_trials(
    plan: Plan, stages: Mapping[str, StageForecast], *, arms: list[str] | None, notes: list[str]
) -> Plan:
    """The plan with those trials, each swept arm at its dearest point: what will be chosen is not known.

    Args:
        plan: As far as records let it be known.
        stages: Its training stages, forecast, by id.
        arms: The arms that it was planned with; all if None.
        notes: Gets what was assumed.
    """
    comparison = plan.comparison
    dearest: dict[str, int] = {}
    for arm in comparison.sweep.arms if comparison.sweep else ():
        seconds = {
            point.number: sum(stages[stage_id].seconds.mid for stage_id in trial.training)
            for point in points_of(comparison, arm)
            for trial in plan.trials
            if trial.name == point.name
        }
        if arm not in plan.chosen and seconds:
            dearest[arm] = max(seconds, key=seconds.__getitem__)
    if not dearest or is_converted(comparison):  # steps that records tell of are not known for them either
        return plan
    named = ", ".join(f"{arm}@{number}" for arm, number in dearest.items())
    notes.append(
        f"what the sweep will choose is not known: fresh seeds are forecast at {named}, the dearest points"
    )
    return make_plan(comparison, arms=arms, chosen={**plan.chosen, **dearest})
