"""What lies in results folders and no comparison refers to: found, sized, removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.errors import UserError
from harness.integrity import standing
from harness.keeping import DYING, WEIGHTS, give_up, weights_to_give_up
from harness.plan import COMPARISON, Plan, read_plan
from harness.records import CHECKPOINTS, RECORD
from harness.reuse import ADOPTING, PARTIAL


@dataclass(frozen=True)
class Garbage:
    """Something that can go.

    Attributes:
        path: A folder.
        reason: Why nothing needs it.
        num_bytes: What removing it frees; a file that another comparison shares frees nothing.
        is_weights: The weights of a stage that stays.
    """

    path: Path
    reason: str
    num_bytes: int
    is_weights: bool = False


def find_garbage(folder: Path) -> list[Garbage]:
    """What can go from a results folder, checkpoints first.

    A stage is referred to if the plan of this comparison, or of one beside it, has it. Checkpoints of a stage that is
    referred to and not done are kept: it goes on from them.

    Raises:
        UserError: it is no results folder, or a plan beside it cannot be read, so that it is not known what is needed.
    """
    plan = _plan(folder)
    beside = [path.parent for path in sorted(folder.parent.glob(f"*/{COMPARISON}")) if path.parent != folder]
    needed = {stage.id for each in (plan, *map(_plan, beside)) for stage in each.stages}
    found = [*_checkpoints(folder, needed), *_stages(folder, needed)]
    found += [
        Garbage(
            folder / stage / WEIGHTS,
            f"keep_weights is {plan.comparison.keep_weights}",
            _freed(folder / stage / WEIGHTS),
            is_weights=True,
        )
        for stage in weights_to_give_up(plan, folder)
    ]
    return found


def remove(garbage: Garbage) -> None:
    """Remove it; a stage that loses its weights keeps its record and does not run again for their sake."""
    if garbage.is_weights:
        give_up(garbage.path.parent, because=garbage.reason)
    else:
        shutil.rmtree(garbage.path)


def _checkpoints(folder: Path, needed: set[str]) -> Iterator[Garbage]:
    for path in sorted(folder.glob(f"*/{CHECKPOINTS}")):  # pathlib's `*` matches unfinished stages, too
        stage = path.parent.name.removeprefix(PARTIAL)
        if stage not in needed:
            yield Garbage(path, "checkpoints of a stage that no comparison refers to", _freed(path))
        elif standing(folder / stage) != "absent":
            yield Garbage(path, "checkpoints of a stage that is done", _freed(path))


def _stages(folder: Path, needed: set[str]) -> Iterator[Garbage]:
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if path.name.startswith(ADOPTING):
            yield _stage(path, "half a copy from another comparison")
        elif path.name.startswith(PARTIAL):
            if path.name.removeprefix(PARTIAL) not in needed:
                yield _stage(path, "an unfinished stage that no comparison refers to")
        elif (path / RECORD).is_file() and path.name not in needed:
            yield _stage(path, "a stage that no comparison refers to")
        elif (path / DYING).is_dir():
            yield Garbage(path / DYING, "weights that were being removed", _freed(path / DYING))


def _stage(path: Path, reason: str) -> Garbage:
    """A whole stage; its checkpoints are listed, and counted, by themselves."""
    return Garbage(path, reason, _freed(path) - _freed(path / CHECKPOINTS))


def _plan(folder: Path) -> Plan:
    if not (folder / COMPARISON).is_file():
        raise UserError(f"{folder}: must be a folder that `prefduel run` made, it has no {COMPARISON}.")
    try:
        return read_plan(folder)
    except ValidationError as error:
        raise UserError(
            f"{folder / COMPARISON}: does not have the form of this version, so what it refers to is not known. Run it "
            "again, or move it elsewhere."
        ) from error


def _freed(path: Path) -> int:
    stats = (file.lstat() for file in path.rglob("*") if file.is_file())
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)
