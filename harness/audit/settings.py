"""Checks on what surrounds the training: declared and other differences, evaluation, versions, machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.audit.case import Case
from harness.audit.checks import Check, judged, not_applicable, told, warned
from harness.audit.tuning import effort_differs
from harness.contention import other_load
from harness.differences import (
    BY_BUDGET,
    TUNING,
    WARM_UP,
    argument_differences,
    warm_up_steps,
)
from harness.identity import read_identity
from harness.records import Missing, Record
from pipelines.stages import EvaluateSettings, JudgeSettings


def same_settings(case: Case) -> Check:
    """Optimizer, decay, clipping, schedule and what else changes an update or its cost are equal, unless declared."""
    name = "same_settings"
    if not case.trained:
        return not_applicable(name, "no training stage finished")
    comparison = case.results.plan.comparison
    free = () if comparison.budget.match == "epochs" else BY_BUDGET
    problems = [
        found.told()
        for found in argument_differences(case.places, free=(*free, *comparison.allow_difference))
    ]
    if WARM_UP not in comparison.allow_difference:
        problems += _warm_up(case)
    return judged(name, problems, f"equal in {len(case.trained)} stages")


def _warm_up(case: Case) -> Iterator[str]:
    """Warm-up that is counted in steps, where stages have different numbers of steps."""
    shares: dict[str, str] = {}
    for stage in case.trained:
        steps, planned = warm_up_steps(stage.outcome.effective_arguments), stage.outcome.num_planned_steps
        if steps and planned:
            shares.setdefault(f"{steps} of {planned} steps", stage.label)
    if len(shares) > 1:
        yield "the warm-up is " + ", ".join(f"{share} in {label}" for share, label in shares.items())


def declared_differences(case: Case) -> Check:
    """What the config allows to differ and does differ, with the reason that it gives."""
    allowed = case.results.plan.comparison.allow_difference
    found = {key: difference.told() for key, difference in case.differences.items()}
    if effort_differs(case):
        found[TUNING] = TUNING
    problems = [f"{found[key]}: {reason}" for key, reason in allowed.items() if key in found]
    passed = f"nothing differs in what is declared ({', '.join(allowed)})" if allowed else "none is declared"
    return warned("declared_differences", problems, passed)


def presets(case: Case) -> Check:
    """What a stage with `preset: stock` makes unequal."""
    name, problems = "updates_independent_of_accumulation", []
    if not case.trained:
        return not_applicable(name, "no training stage finished")
    for stage in case.trained:
        settings = stage.settings
        if settings.mean_over == "micro_batch" and settings.effective_batch > settings.micro_batch:
            problems.append(
                f"{stage.label}: losses are averaged over micro-batches of {settings.micro_batch} pairs, so the update "
                "depends on how the effective batch is cut"
            )
    return warned(name, problems, "no update depends on the micro-batch")


def equal_evaluation_inputs(case: Case) -> Check:
    """Every arm was measured and judged with the same settings, on the same data and the same items."""
    name, problems, compared = "equal_evaluation_inputs", [], 0
    first: dict[str, tuple[Record, set[str]]] = {}
    for record in _evaluations(case):
        settings = record.stage.settings
        if isinstance(settings, JudgeSettings):
            # Which items have a verdict is the judge's answer; which it was given, the generation's items say.
            group, items = f"judge {settings.judge.name}", set[str]()
        else:
            assert isinstance(settings, EvaluateSettings)
            group, items = settings.evaluation.group, _items(case, record)
        compared += 1
        if group not in first:
            first[group] = record, items
            continue
        other, of_other = first[group]
        where = f"{record.stage.id} and {other.stage.id} ({group})"
        if (keys := _different_settings(record, other)) and not _same_by_content(case, record, other):
            problems.append(f"{where}: {', '.join(keys)} differ")
        elif record.stage.inputs.data != other.stage.inputs.data:
            problems.append(f"{where}: measured on other data")
        elif items != of_other:
            problems.append(f"{where}: {len(items ^ of_other)} items are in one of them only")
    if not compared:
        return not_applicable(name, "no evaluation finished")
    return judged(
        name, problems, f"the same settings, data and items in {compared} evaluations and judgements"
    )


def same_versions(case: Case) -> Check:
    """Every stage of every arm ran with the same libraries."""
    name, records = "same_library_versions", _records(case)
    if not records:
        return not_applicable(name, "no stage of an arm finished")
    problems = []
    for library in sorted({library for record in records for library in record.versions}):
        found: dict[str, str] = {}
        for record in records:
            found.setdefault(record.versions.get(library, "none"), record.stage.id)
        if len(found) > 1:
            problems.append(f"{library} is " + ", ".join(f"{v} in {stage}" for v, stage in found.items()))
    return judged(name, problems, f"the same in {len(records)} stages")


def same_hardware(case: Case) -> Check:
    """Every training stage ran on the same kind of machine."""
    name = "same_kind_of_hardware"
    if not case.trained:
        return not_applicable(name, "no training stage finished")
    found: dict[str, str] = {}
    for stage in case.trained:
        machine = stage.record.machine
        found.setdefault(machine.accelerator or machine.processor, stage.label)
    problems = (
        [] if len(found) == 1 else ["; ".join(f"{stage} ran on {kind}" for kind, stage in found.items())]
    )
    return judged(name, problems, next(iter(found)))


def machine_to_itself(case: Case) -> Check:
    """Whether other processes used the machine while an arm trained: its costs are then unreliable."""
    name = "machine_to_itself"
    problems, undisturbed, reasons = [], 0, []
    for stage in case.trained:
        cost = stage.record.cost
        contended = cost.contended if cost is not None else None
        if isinstance(contended, Missing):
            reasons.append(f"not known of {stage.label}: {contended.reason}")
        elif contended:
            assert cost is not None
            problems.append(f"{stage.label}: {other_load([cost])}, so its costs are unreliable")
        else:
            undisturbed += contended is False
    if not problems and not undisturbed:
        return not_applicable(name, told(reasons) or "no finished training stage recorded it")
    return warned(name, problems, told([f"no other load in {undisturbed} stages", *reasons]))


def _evaluations(case: Case) -> Iterator[Record]:
    for trial in case.trials:
        for stage_id in [*trial.evaluations, *trial.judgements]:
            if (record := case.results.done(stage_id)) is not None:
                yield record


def _records(case: Case) -> list[Record]:
    ids = dict.fromkeys(stage_id for trial in case.trials for stage_id in trial.stages())
    return [record for stage_id in ids if (record := case.results.done(stage_id)) is not None]


def _items(case: Case, record: Record) -> set[str]:
    columns = case.results.items.get(record.stage.id, {}).values()
    return set().union(
        *{id(column.items): column.items for column in columns}.values()
    )  # most have the same ones


def _same_by_content(case: Case, first: Record, second: Record) -> bool:
    """Whether only names of files that hold the same differ: a path differs with the folder that a run began in."""
    made, other = (read_identity(case.results.folder / record.stage.id) for record in (first, second))
    return bool(made) and all(made.get(key) == other.get(key) for key in ("settings", "content"))


def _different_settings(first: Record, second: Record) -> list[str]:
    one, other = first.stage.settings, second.stage.settings
    return [] if one == other else _different_keys(one.model_dump(mode="json"), other.model_dump(mode="json"))


def _different_keys(first: dict[str, Any], second: dict[str, Any], before: str = "") -> list[str]:
    keys = []
    for key in first.keys() | second.keys():
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            keys += _different_keys(a, b, f"{before}{key}.")
        elif a != b:
            keys.append(f"{before}{key}")
    return sorted(keys)
