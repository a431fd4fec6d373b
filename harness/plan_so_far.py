"""The plan as far as the records of a results folder let it be known, and whether that is all of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.config import Comparison
from harness.integrity import checked_items
from harness.items import Column
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
        records, items = _so_far(folder, plan)
        chosen = choose(plan, records, items)
        known = make_plan(comparison, arms=arms, chosen=chosen, night=night, records=records)
        if known.stages == plan.stages:
            break
        plan = known
    return plan


def is_complete(plan: Plan) -> bool:
    """Whether no record can add to the plan."""
    return not plan.waiting and not any(True for _ in still_to_choose(plan))


def _so_far(folder: Path, plan: Plan) -> tuple[dict[str, Record], dict[str, dict[str, Column]]]:
    """Records by stage id, and the items of what a sweep's points scored.

    A stage whose record or items are damaged has neither: it will run again.
    """
    of_points = {stage_id for trial in plan.trials if trial.role == "point" for stage_id in trial.evaluations}
    records: dict[str, Record] = {}
    items: dict[str, dict[str, Column]] = {}
    for stage in plan.stages:
        with contextlib.suppress(ValueError):  # pydantic's is one
            if (record := read_record(folder / stage.id)) is None:
                continue
            if stage.id in of_points:
                items[stage.id] = checked_items(folder / stage.id, record.outcome, record.files)
            records[stage.id] = record
    return records, items
