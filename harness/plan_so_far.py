"""The plan as far as the records of a results folder let it be known, and whether that is all of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from harness.config import Comparison
from harness.plan import Night, Plan
from harness.planning import make_plan
from harness.records import Record, read_record
from harness.sweep import choose, still_to_choose


def plan_from(
    comparison: Comparison, folder: Path, *, arms: list[str] | None = None, night: Night | None = None
) -> Plan:
    """The plan as far as the records in `folder` let it be known: a sweep's points and a budget's steps come from them.

    Args:
        comparison: The validated config.
        folder: The comparison's results folder; it need not be there yet.
        arms: Only these arms; all of them if None.
        night: What a night changes.

    Raises:
        UserError: as `make_plan`.
    """
    plan = make_plan(comparison, arms=arms, night=night)
    while not is_complete(plan):
        records = _records_so_far(folder, plan)
        known = make_plan(comparison, arms=arms, chosen=choose(plan, records), night=night, records=records)
        if known.stages == plan.stages:
            break
        plan = known
    return plan


def is_complete(plan: Plan) -> bool:
    """Whether no record can add to the plan."""
    return not plan.waiting and not any(True for _ in still_to_choose(plan))


def _records_so_far(folder: Path, plan: Plan) -> dict[str, Record]:
    """By stage id; a damaged record is none, its stage will run again."""
    found: dict[str, Record] = {}
    for stage in plan.stages:
        with contextlib.suppress(ValidationError):
            if (record := read_record(folder / stage.id)) is not None:
                found[stage.id] = record
    return found
