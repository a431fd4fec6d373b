"""Which stages need not run: those done in the comparison's own folder, and those done in a sibling's.

Comparisons whose folders lie side by side share finished stages. A stage that is done in another is linked into
this one's folder: each folder stays complete by itself, and can be moved or deleted without harm to the others.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.integrity import is_intact, standing
from harness.plan import COMPARISON, Plan
from harness.records import write_json
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
    """

    todo: list[Stage]
    elsewhere: dict[str, Path]
    num_done: int


def work_left(plan: Plan, folder: Path) -> Work:
    """What is left of `plan`: a stage whose weights were given up runs again only if one that has to run needs them.

    Args:
        plan: The plan.
        folder: The comparison's results folder; the folders beside it are searched as well.
    """
    others = _siblings(folder)
    todo: list[Stage] = []
    elsewhere: dict[str, Path] = {}
    needed: set[str] = set()
    for stage in reversed(plan.stages):
        good = ("whole",) if stage.id in needed else ("whole", "light")
        places = [root / stage.id for root in (folder, *others) if standing(root / stage.id) in good]
        if stage.id in needed:  # what will be read must be what was written
            places = [place for place in places if is_intact(place)]
        if folder / stage.id in places:
            continue
        found = next(iter(places), None)
        if found is not None:
            elsewhere[stage.id] = found
            continue
        todo.append(stage)
        needed |= inputs_of(stage)
    ordered = {stage.id: elsewhere[stage.id] for stage in plan.stages if stage.id in elsewhere}
    return Work(todo[::-1], ordered, len(plan.stages) - len(todo) - len(elsewhere))


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
