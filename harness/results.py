"""Reads a results folder: the plan, the record of each stage, the rows of its files. Nothing else reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import UserError
from harness.helpers import NOBODY, Helpers, Task
from harness.identity import decision_hash
from harness.integrity import checked_items, refuse_other_than_folder
from harness.items import Column
from harness.plan import COMPARISON, Plan, Trial, read_plan
from harness.records import RECORD, Record, read_record
from harness.rows import read_rows
from harness.sweep import points_of
from pipelines.outcomes import DataOutcome, Outcome
from pipelines.stages import EvaluateSettings, PrepareSettings, Stage

STAGES_AT_ONCE = 100
OTHER_VERSION = "Read it with the version that wrote it, or run again."


@dataclass(frozen=True)
class Results:
    """What a run left.

    Attributes:
        plan: As the last run left it; the rule in it may have been changed for this reading.
        records: By stage id; a stage that was never run has none.
        items: By stage id: the metrics of each finished evaluation, item by item, as its record says.
        declared_hash: Of the decision rule of the last run.
    """

    folder: Path
    plan: Plan
    records: dict[str, Record]
    items: dict[str, dict[str, Column]]
    declared_hash: str

    def stage(self, stage_id: str) -> Stage:
        """The planned stage of this id."""
        return self._stages[stage_id]

    @cached_property
    def _stages(self) -> dict[str, Stage]:
        return {stage.id: stage for stage in self.plan.stages}

    @cached_property
    def served(self) -> Counter[str]:
        """How many trials each billed stage serves."""
        return Counter(stage_id for trial in self.plan.trials for stage_id in trial.billed())

    def done(self, stage_id: str) -> Record | None:
        """The record of the stage if it succeeded."""
        record = self.records.get(stage_id)
        return record if record is not None and record.status == "done" else None

    def models(self) -> dict[str, list[Trial]]:
        """The trials of each model, controls first, in the order of the config, by seed."""
        return {
            name: trials for name, trials in self.models_and_points().items() if trials[0].role != "point"
        }

    @cached_property
    def _points(self) -> list[str]:
        """Names of a sweep's points; kept, since every section of a report asks for the models."""
        comparison = self.plan.comparison
        return [point.name for arm in comparison.arms for point in points_of(comparison, arm)]

    def models_and_points(self) -> dict[str, list[Trial]]:
        """The same, and after them a sweep's points, in the order of the config."""
        names = ("base", "sft", *self.plan.comparison.arms, *self._points)
        found: dict[str, list[Trial]] = {name: [] for name in names}
        for trial in sorted(self.plan.trials, key=lambda trial: trial.seed or 0):
            found[trial.name].append(trial)
        return {name: trials for name, trials in found.items() if trials}

    def rows(self, stage_id: str, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a JSON-lines file of a stage; none where there is no such file."""
        path = self.folder / stage_id / name
        if path.exists():
            yield from read_rows(path)

    def evaluations(self, trial: Trial, group: str) -> list[str]:
        """Ids of the finished evaluations of a group on the trial's model."""
        found = []
        for stage_id in trial.evaluations:
            settings = self.stage(stage_id).settings
            assert isinstance(settings, EvaluateSettings)
            if settings.evaluation.group == group and self.done(stage_id):
                found.append(stage_id)
        return found

    def data(self) -> DataOutcome | None:
        """What the shared loader made of the pairs."""
        return self._prepared(demonstrations=False)

    def demonstrations(self) -> DataOutcome | None:
        """What it made of a data set for SFT alone."""
        return self._prepared(demonstrations=True)

    def _prepared(self, *, demonstrations: bool) -> DataOutcome | None:
        for record in self.records.values():
            settings = record.stage.settings
            if isinstance(settings, PrepareSettings) and settings.demonstrations == demonstrations:
                return record.outcome if isinstance(record.outcome, DataOutcome) else None
        return None


def _is_of_another_schema(error: ValidationError) -> bool:
    return any(problem["loc"] == ("schema",) for problem in error.errors())


def read_results(folder: Path, helpers: Helpers = NOBODY) -> Results:
    """Read plan and records of a results folder, and the items of its finished evaluations.

    Args:
        folder: Of the results.
        helpers: Read items while the records are read here.

    Raises:
        UserError: it is not a results folder, or a file in it is damaged.
    """
    plan = _read_plan(folder)
    records: dict[str, Record] = {}
    tasks: list[Task[dict[str, dict[str, Column]]]] = []
    stages = iter(plan.stages)
    while some := list(islice(stages, STAGES_AT_ONCE)):
        read = {stage.id: record for stage in some if (record := _read_record(folder, stage)) is not None}
        finished = {
            name: (record.outcome, record.files) for name, record in read.items() if record.status == "done"
        }
        tasks.append(helpers.start(_read_items, folder, finished))
        records |= read
    items = {name: columns for task in tasks for name, columns in task.result().items()}
    # The rule that is there, not the one that its hash says is there: somebody may have edited it.
    present = decision_hash(plan.comparison.decision)
    return Results(
        folder, plan.model_copy(update={"decision_hash": present}), records, items, plan.decision_hash
    )


def _read_plan(folder: Path) -> Plan:
    if not (folder / COMPARISON).is_file():
        raise UserError(f"{folder}: must be a folder that `prefduel run` made, it has no {COMPARISON}.")
    try:
        plan = read_plan(folder)
    except ValidationError as error:
        raise UserError(
            f"{folder / COMPARISON}: does not have the form of this version. {OTHER_VERSION}"
        ) from error
    known = {stage.id for stage in plan.stages}
    for trial in plan.trials:
        if unknown := {*trial.stages(), *trial.billed()} - known:
            raise UserError(
                f"{folder / COMPARISON}: is damaged, {trial.name} has a stage that the plan does not have ({min(unknown)}). Run again."
            )
    return plan


def _read_record(folder: Path, stage: Stage) -> Record | None:
    try:
        record = read_record(folder / stage.id)
    except ValidationError as error:
        path = folder / stage.id / RECORD
        if _is_of_another_schema(error):
            raise UserError(
                f"{path}: has a schema that this version does not know. {OTHER_VERSION}"
            ) from error
        raise UserError(f"{path}: is damaged. Delete the folder {stage.id} and run again.") from error
    except OSError as error:
        raise UserError(
            f"{folder / stage.id / RECORD}: {error.strerror}. Delete the folder {stage.id} and run again."
        ) from error
    if record is None:
        refuse_other_than_folder(folder / stage.id)
    if record is not None and record.stage == stage:
        # The plan has the stage, too: held once, ten thousand trials fit in memory.
        return record.model_copy(update={"stage": stage})
    return record


def _read_items(
    folder: Path, finished: dict[str, tuple[Outcome | None, dict[str, str]]]
) -> dict[str, dict[str, Column]]:
    """The items of finished stages, by their ids; of each its outcome and the hashes of its files."""
    items = {}
    for stage_id, (outcome, files) in finished.items():
        try:
            items[stage_id] = checked_items(folder / stage_id, outcome, files)
        except ValueError as error:
            raise UserError(f"{error}. Delete the folder {stage_id} and run again.") from error
    return items
