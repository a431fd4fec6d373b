"""What a night runs: the comparison under a name of its own, with what is measured anew, and with which seeds."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from harness.concurrency import settled
from harness.config import Comparison
from harness.errors import UserError
from harness.integrity import standing
from harness.plan import COMPARISON, Night, Plan, read_plan
from harness.plan_so_far import plan_from
from harness.planning import make_plan
from harness.reuse import ADOPTED, work_left

TODAY = "today"
LONGEST_NAME = 64  # as the config has it


def plan_of(comparison: Comparison, *, arms: list[str] | None, results: Path, night: str | None) -> Plan:
    """The plan of a run, or of a night's run. A night's comparison is called `NAME-DATE`.

    Args:
        comparison: The validated config.
        arms: Only these arms; all if None.
        results: Folder below which each comparison has its own.
        night: A date, or `today`; None for a plain run.

    Raises:
        UserError: the date is none, or the name gets too long.
    """
    comparison = settled(comparison, results)
    if night is None:
        return plan_from(comparison, results / comparison.name, arms=arms)
    day = _day(night)
    name = f"{comparison.name}-{day}"
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"name: must leave room for the date of a night: {name} is longer than {LONGEST_NAME}."
        )
    folder = results / name
    named = comparison.model_copy(update={"name": name})
    if comparison.nightly.seeds == "rotate":
        return _rotated(named, comparison, arms, results, day)
    first = comparison.first_seed
    seeds = list(range(first, first + named.seeds))
    return plan_from(named, folder, arms=arms, night=_night(named, folder, day, seeds))


def _rotated(
    named: Comparison, comparison: Comparison, arms: list[str] | None, results: Path, day: str
) -> Plan:
    """New seeds for this night, beside those of nights before that are done and can be taken over as they are."""
    folder = results / named.name
    earlier = _earlier(comparison.name, results, day)
    seen = sorted({seed for plan in earlier for seed in _seeds(plan)})
    same_night = _read(folder)
    if same_night is not None and same_night.new_seeds:
        first = same_night.new_seeds[0]
        seen = [seed for seed in seen if seed < first]
    else:
        first = seen[-1] + 1 if seen else comparison.first_seed
    new = list(range(first, first + comparison.seeds))
    whole = make_plan(named, arms=arms, night=_night(named, folder, day, [*seen, *new]))
    todo = {stage.id for stage in work_left(whole, folder).todo}
    lacking = {trial.seed for trial in whole.trials if todo & set(trial.stages())}
    kept = [seed for seed in seen if seed not in lacking]
    total = named.model_copy(update={"seeds": len(kept) + len(new)})
    plan = make_plan(total, arms=arms, night=_night(named, folder, day, [*kept, *new]))
    looks = 1 + sum(not set(kept).isdisjoint(_seeds(before)) for before in earlier)
    return plan.model_copy(update={"new_seeds": new, "num_looks": looks})


def _night(comparison: Comparison, folder: Path, day: str, seeds: list[int]) -> Night:
    def measured_before(stage_id: str) -> bool:
        if standing(folder / stage_id) != "absent":
            return (folder / stage_id / ADOPTED).is_file()
        return any(standing(path) != "absent" for path in folder.parent.glob(f"*/{stage_id}"))

    return Night(day, tuple(seeds), comparison.nightly.remeasure, measured_before)


def _earlier(name: str, results: Path, day: str) -> list[Plan]:
    """The plans of the plain run and of the nights before `day`, oldest first."""
    nights = sorted(
        path
        for path in results.glob(f"{name}-*")
        if re.fullmatch(r"\d{4}-\d\d-\d\d", path.name.removeprefix(f"{name}-"))
        and path.name.removeprefix(f"{name}-") < day
    )
    return [plan for path in (results / name, *nights) if (plan := _read(path)) is not None]


def _read(folder: Path) -> Plan | None:
    try:
        return read_plan(folder) if (folder / COMPARISON).is_file() else None
    except ValidationError:  # of another version: nothing of it can be taken over
        return None


def _seeds(plan: Plan) -> set[int]:
    return {trial.seed for trial in plan.trials if trial.seed is not None}


def _day(night: str) -> str:
    if night == TODAY:
        return date.today().isoformat()  # the date on the person's wall
    try:
        return date.fromisoformat(night).isoformat()
    except ValueError as error:
        raise UserError(f"--night {night}: must be a date such as 2026-11-24, or {TODAY}.") from error
