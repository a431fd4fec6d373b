"""When the decision rule was declared: `decisions.jsonl`, and the hash in each record. Neither is ever rewritten."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from pydantic import Field, ValidationError

from harness.config import Decision
from harness.errors import UserError
from harness.identity import decision_hash
from harness.integrity import standing
from harness.plan import Plan
from harness.records import RECORD, append_line, is_torn, sound_record
from harness.results import Results
from harness.summary_schema import SUMMARY, RuleStatus, RuleSummary
from pipelines.stages import Strict

DECISIONS = "decisions.jsonl"


class Look(Strict):
    """A number of seeds with which a comparison was judged by one rule."""

    comparison: str
    at: str = Field(description="When that run began: UTC, ISO 8601.")
    seeds: int


class Declaration(Strict):
    """One line of `decisions.jsonl`: the rule and the number of seeds with which a run began."""

    at: str = Field(description="UTC, ISO 8601.")
    decision_hash: str
    seeds: int
    num_measured: int = Field(description="Finished evaluations in the results folder at that time.")
    decision: Decision
    elsewhere: list[Look] = Field(
        [], description="What others, whose evaluations are taken over, made by the same rule."
    )


def declare(folder: Path, plan: Plan, elsewhere: Mapping[str, Path]) -> None:
    """Add what this run declares to `decisions.jsonl`, unless the last line says the same.

    Args:
        folder: The results folder, before any stage of this run has started.
        plan: What will be run.
        elsewhere: Stages that are done in another comparison and will be taken over, and their folders there.
    """
    before = read_declarations(folder)
    seeds = plan.comparison.seeds
    if before and (before[-1].decision_hash, before[-1].seeds) == (plan.decision_hash, seeds):
        return
    declaration = Declaration(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        decision_hash=plan.decision_hash,
        seeds=seeds,
        num_measured=_num_measured(folder),
        decision=plan.comparison.decision,
        elsewhere=_looks_elsewhere(folder, plan, elsewhere),
    )
    append_line(folder / DECISIONS, declaration.model_dump_json())


def read_declarations(folder: Path) -> list[Declaration]:
    """The lines of `decisions.jsonl`, oldest first, each with the hash of the rule in it; none where there is no such file.

    Raises:
        UserError: a line is damaged.
        OSError: it cannot be read; a folder of its name, for one.
    """
    path = folder / DECISIONS
    if not path.exists():
        return []
    found = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or is_torn(line):  # the power went while it was written: its run had not begun
            continue
        try:
            declaration = Declaration.model_validate_json(line)
            found.append(
                declaration.model_copy(update={"decision_hash": decision_hash(declaration.decision)})
            )
        except ValidationError as error:
            raise UserError(
                f"{path}: line {number} is damaged. Remove that line; keep the others, they say when the rule was "
                "declared."
            ) from error
    return found


def rule_summary(results: Results) -> RuleSummary:
    """Whether the rule in force was declared before the data were seen.

    Witnesses are the rule in the record of each compared arm's first evaluation, and `decisions.jsonl`. Data of one arm
    alone, taken over from another comparison, show no difference between the two.

    Args:
        results: With the rule by which it is judged.
    """
    present = results.plan.decision_hash
    lines = read_declarations(results.folder)
    place = next((index for index, line in enumerate(lines) if line.decision_hash == present), None)
    replaced = place is not None and place > 0 and lines[place].num_measured > 0
    seen_under = _first_rules(results)
    status: RuleStatus = "unknown"
    if present in seen_under or not seen_under:
        status = "declared"
    elif any(seen_under):
        status = "after_data"
    if present != results.declared_hash or replaced:
        status = "after_data"
    looks = _looks(lines, present, results.folder.name)
    return RuleSummary(
        status=status,
        declared_at=None if place is None else min([lines[place].at, *(look.at for look in looks)]),
        first=lines[0].decision.model_dump(mode="json") if lines else None,
        looks=[look.seeds for look in looks],
    )


def redecided(results: Results, changes: dict[str, object]) -> Results:
    """The same results under another rule; `declared_hash` still is the declared one's.

    Args:
        results: As they were read.
        changes: Keys of `decision` and their new values.

    Raises:
        ValidationError: a value is not one that the key can have.
    """
    comparison = results.plan.comparison
    decision = Decision.model_validate(comparison.decision.model_dump() | changes)
    if decision == comparison.decision:
        return results
    plan = results.plan.model_copy(
        update={
            "comparison": comparison.model_copy(update={"decision": decision}),
            "decision_hash": decision_hash(decision),
        }
    )
    return replace(results, plan=plan)


def _num_measured(folder: Path) -> int:
    records = (sound_record(path.parent) for path in folder.glob(f"evaluate-*/{RECORD}"))
    return sum(record is not None and record.status == "done" for record in records)


def _compared(plan: Plan) -> dict[str, set[str]]:
    """Ids of the evaluations that the verdict is of, by arm."""
    found: dict[str, set[str]] = {arm: set() for arm in plan.comparison.decision.compare}
    for trial in plan.trials:
        if trial.name in found:
            found[trial.name].update(trial.evaluations)
    return found


def _first_rules(results: Results) -> list[str | None]:
    """Hash of the rule under which each compared arm was first measured; none where an arm was not measured yet."""
    first = []
    for stage_ids in _compared(results.plan).values():
        measured = [record for stage_id in stage_ids if (record := results.done(stage_id))]
        if not measured:
            return []
        first.append(min(measured, key=lambda record: record.started_at).decision_hash)
    return first


def _looks(lines: Sequence[Declaration], rule: str, comparison: str) -> list[Look]:
    """The looks by the rule of that hash at the data of `comparison`, those that others made at what it took over first."""
    of_rule = [line for line in lines if line.decision_hash == rule]
    found = [look for line in of_rule for look in line.elsewhere]
    # What was declared and then changed before anything was measured was no look.
    found += [
        Look(comparison=comparison, at=line.at, seeds=line.seeds)
        for line, following in zip_longest(lines, lines[1:])
        if line.decision_hash == rule and (following is None or following.num_measured > 0)
    ]
    first: dict[tuple[str, int], Look] = {}
    for look in found:
        first.setdefault((look.comparison, look.seeds), look)
    return list(first.values())


def _looks_elsewhere(folder: Path, plan: Plan, elsewhere: Mapping[str, Path]) -> list[Look]:
    """The looks by the plan's rule that others made at evaluations which it takes over, less those that are its own."""
    compared = _compared(plan)
    sources = [
        {elsewhere[stage_id].parent for stage_id in stage_ids if stage_id in elsewhere}
        for stage_ids in compared.values()
    ]
    found: list[Look] = []
    for source in sorted(set.intersection(*sources)):  # one arm alone showed it no difference of these two
        if not (source / SUMMARY).is_file():  # nobody has seen a verdict of it yet
            continue
        with contextlib.suppress(UserError):  # a damaged file of another comparison stops no run
            looks = _looks(read_declarations(source), plan.decision_hash, source.name)
            all_there = all(
                standing(source / stage_id) != "absent" for stage_id in set().union(*compared.values())
            )
            same = plan.comparison.seeds if all_there else None  # the same data again, under another name
            found += [
                look
                for look in looks
                if look.comparison != folder.name
                and not (look.comparison == source.name and look.seeds == same)
            ]
    return found
