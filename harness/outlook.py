"""What a run would do: every distinct stage of a plan once, with what is done and what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from harness.hostile import terminal
from harness.plan import Plan, Trial
from harness.reuse import work_left
from pipelines.stages import CalibrateSettings, JudgeSettings, Stage, Strict


class PlannedStage(Strict):
    """A distinct stage and whether it has to run."""

    id: str
    kind: str
    arm: str | None = None
    seed: int | None = None
    state: Literal["done", "todo"]


class Outlook(Strict):
    """What `plan --json` prints. `arm` and `seed` of a stage are null where trials of several share it."""

    trials: list[Trial]
    stages: list[PlannedStage]
    not_yet_known: list[str]


def look_ahead(plan: Plan, folder: Path, *, not_yet_known: list[str] | None = None) -> Outlook:
    """Which stages of `plan` are done in `folder` and which are left.

    Args:
        plan: The plan.
        folder: The comparison's results folder; it need not be there yet. What is done in one beside it counts too.
        not_yet_known: Sentences on stages that only what comes out can call for.
    """
    todo = {stage.id for stage in work_left(plan, folder).todo}
    stages = []
    for stage in plan.stages:
        trials = trials_of(plan, stage.id)
        seeds = {trial.seed for trial in trials}
        stages.append(
            PlannedStage(
                id=stage.id,
                kind=stage.kind,
                arm=_whose(trials),
                seed=seeds.pop() if len(seeds) == 1 else None,
                state="todo" if stage.id in todo else "done",
            )
        )
    return Outlook(trials=plan.trials, stages=stages, not_yet_known=not_yet_known or [])


def trials_of(plan: Plan, stage_id: str) -> list[Trial]:
    """The trials that a stage serves, in the order in which they run."""
    return [trial for trial in plan.trials if stage_id in trial.stages()]


def stage_label(plan: Plan, stage: Stage) -> str:
    """A few words on a stage: what it does, and for which trial it does so first."""
    trial = next(iter(trials_of(plan, stage.id)), None)
    if isinstance(stage.settings, CalibrateSettings):
        return f"time the steps of {stage.settings.stage.kind}"
    if trial is None or stage.id in trial.preparation:
        return "base: evaluate preference" if stage.kind == "evaluate" else stage.kind
    if stage.night is not None and stage.id in trial.remeasured:
        return f"{trial.label()}: {stage.kind} again, for its cost"
    if stage.id in trial.training:
        return f"{trial.label()}: train {stage.kind}"
    if stage.id in trial.references:
        return f"{trial.label()}: reference log-probs"
    if isinstance(stage.settings, JudgeSettings):
        return f"{trial.label()}: judge {stage.settings.judge.name}{against(plan, stage)}"
    group = getattr(getattr(stage.settings, "evaluation", None), "group", "")
    return f"{trial.label()}: evaluate {group}"


def against(plan: Plan, stage: Stage) -> str:
    """Of a judge's stage that compares: whom with, in words; nothing for any other."""
    opponents = (trial for trial in plan.trials if stage.inputs.opponent in trial.evaluations)
    opponent = next(opponents, None)
    return f" against {opponent.name}" if opponent else ""


def outlook_json(outlook: Outlook) -> str:
    """The outlook for machines."""
    return json.dumps(outlook.model_dump(mode="json"), indent=2)


def outlook_lines(name: str, outlook: Outlook) -> Iterator[str]:
    """The outlook for people: the total, then a line for each kind of stage in the order of the work."""
    done = sum(stage.state == "done" for stage in outlook.stages)
    yield terminal(
        f"{name}: {len(outlook.trials)} trials, {len(outlook.stages)} distinct stages, {done} done, "
        f"{len(outlook.stages) - done} to do"
    )
    kinds: dict[str, list[PlannedStage]] = {}
    for stage in outlook.stages:
        kinds.setdefault(stage.kind, []).append(stage)
    yield f"  {'kind':<12}{'stages':>8}{'done':>8}{'to do':>8}"
    for kind, stages in kinds.items():
        finished = sum(stage.state == "done" for stage in stages)
        yield f"  {kind:<12}{len(stages):>8}{finished:>8}{len(stages) - finished:>8}"
    for sentence in outlook.not_yet_known:
        yield f"  not yet known: {sentence}"


def _whose(trials: list[Trial]) -> str | None:
    """The one arm that the trials belong to; a control counts only where no arm uses the stage as well."""
    names: dict[str, Any] = dict.fromkeys(trial.name for trial in trials if trial.role == "arm")
    names = names or dict.fromkeys(trial.name for trial in trials)
    return next(iter(names)) if len(names) == 1 else None
