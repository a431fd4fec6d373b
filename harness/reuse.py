"""Which stages need not run: those done in the comparison's own folder, and those done in a sibling's.

Comparisons whose folders lie side by side share finished stages. A stage that is done in another is linked into
this one's folder: each folder stays complete by itself, and can be moved or deleted without harm to the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.integrity import OUTDATED, is_intact, refuse_other_than_folder, standing
from harness.plan import COMPARISON, Plan
from harness.records import read_record, write_json
from pipelines.outcomes import PretrainOutcome, ReferenceOutcome, TrainOutcome
from pipelines.stages import Stage

ADOPTED = "adopted.json"
PARTIAL, ADOPTING = ".partial-", ".adopting-"  # a stage's folder until it is complete


@dataclass(frozen=True)
class Work:
    """What a plan still asks for.

    Attributes:
        todo: Stages to run, inputs first.
        elsewhere: Stage id to the finished stage's folder in another comparison.
        num_done: Stages that are done in the comparison's own folder.
        outdated: Ids of stages to run that are done in that folder, but rest on one that is not there.
    """

    todo: list[Stage]
    elsewhere: dict[str, Path]
    num_done: int
    outdated: frozenset[str] = frozenset()


def work_left(plan: Plan, folder: Path) -> Work:
    """What is left of `plan`: stages that are not there, what depends on them, and what those need to read.

    A stage whose weights were given up runs again only if one that has to run needs them; what was made from those
    weights before stays.

    Args:
        plan: The plan.
        folder: The comparison's results folder; the folders beside it are searched as well.

    Raises:
        UserError: something that is no folder stands in the place of a stage's.
    """
    for stage in plan.stages:
        refuse_other_than_folder(folder / stage.id)
    roots = (folder, *_siblings(folder))
    there = _there(plan, roots)
    readable = _Readable(roots)
    todo: list[Stage] = []
    elsewhere: dict[str, Path] = {}
    needed: set[str] = set()
    for stage in reversed(plan.stages):
        found = there.get(stage.id)
        if found is not None and stage.id in needed:
            found = readable.place(stage.id)
        if found is None:
            todo.append(stage)
            needed |= inputs_of(stage)
        elif found.parent != folder:
            elsewhere[stage.id] = found
    ordered = {stage.id: elsewhere[stage.id] for stage in plan.stages if stage.id in elsewhere}
    return Work(
        todo[::-1],
        ordered,
        num_done=len(plan.stages) - len(todo) - len(elsewhere),
        outdated=frozenset(
            stage.id for stage in todo if stage.id not in there and standing(folder / stage.id) != "absent"
        ),
    )


def mark_outdated(work: Work, folder: Path) -> None:
    """Keep it in mind, also if the run is killed, that what rested on a stage that is made again is made again too."""
    for stage_id in work.outdated:
        write_json(folder / stage_id / OUTDATED, {})


def _there(plan: Plan, roots: Sequence[Path]) -> dict[str, Path]:
    """The finished stages that rest on finished ones alone, each with the first folder that has it.

    On a GPU a stage that is remade can differ from the one that others were made from.
    """
    found: dict[str, Path] = {}
    for stage in plan.stages:
        # What a run has set out to make again is of weights that are gone, and so may be what others have of it.
        if inputs_of(stage) <= found.keys() and not (roots[0] / stage.id / OUTDATED).is_file():
            places = (root / stage.id for root in roots)
            done = next((place for place in places if standing(place) != "absent"), None)
            if done is not None:
                found[stage.id] = done
    return found


class _Readable:
    """Where what a stage left can be read: the first folder in which it is what was written. Each is looked at once.

    Args:
        roots: Results folders, the comparison's own first.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._found: dict[str, Path | None] = {}

    def place(self, stage_id: str) -> Path | None:
        """The stage's folder; None where it has to run."""
        if stage_id not in self._found:
            places = (root / stage_id for root in self._roots)
            good = (place for place in places if standing(place) == "whole" and is_intact(place))
            self._found[stage_id] = next(filter(self._is_of_present_weights, good), None)
        return self._found[stage_id]

    def _is_of_present_weights(self, place: Path) -> bool:
        """Whether reference log-probs are of the weights that will be read with them: a GPU may make others of the same stage."""
        record = read_record(place)
        assert record is not None
        if not isinstance(record.outcome, ReferenceOutcome) or record.outcome.weights_hash is None:
            return True
        inputs = record.stage.inputs
        source = self.place(inputs.policy or inputs.base or "")
        made = None if source is None else read_record(source)
        present = made.outcome if made is not None else None
        return (
            isinstance(present, TrainOutcome | PretrainOutcome)
            and present.weights_hash == record.outcome.weights_hash
        )


def inputs_of(stage: Stage) -> set[str]:
    """Ids of the stages that this one reads."""
    return {name for name in stage.inputs.model_dump().values() if name}


def adopt(source: Path, folder: Path) -> bool:
    """Link the finished stage `source` of another comparison into `folder`; what it holds takes no space twice.

    Returns:
        False where it vanished meanwhile: then it has to run.
    """
    # Not where a stage runs: half of a copy must never be taken for a stage that was killed after its record.
    partial, final = folder / f"{ADOPTING}{source.name}", folder / source.name
    for leftover in (partial, final):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        shutil.copytree(source, partial, copy_function=_link)
        write_json(partial / ADOPTED, {"comparison": source.parent.name})
    except (FileNotFoundError, shutil.Error):
        shutil.rmtree(partial, ignore_errors=True)
        return False
    partial.rename(final)
    return True


def _siblings(folder: Path) -> list[Path]:
    if not folder.parent.is_dir():
        return []
    return sorted(
        path for path in folder.parent.iterdir() if path != folder and (path / COMPARISON).is_file()
    )


def _link(source: str, target: str) -> None:
    """A finished stage's files never change, so a second name for them is enough where the file system has such."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
