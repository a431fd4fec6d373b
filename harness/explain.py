"""What a stage, or a trial's stages, were made from; and for two of them, which fields differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UserError
from harness.hostile import terminal
from harness.identity import IDENTITY, Identity, read_identity
from harness.plan import COMPARISON, Plan, Trial, read_plan
from harness.records import RECORD, read_record

Kept = TypeVar("Kept")
NOTHING = "nothing"


@dataclass(frozen=True)
class Made:
    """A stage of a results folder, with what its id is a hash of."""

    folder: Path
    identity: Identity

    @property
    def inputs(self) -> dict[str, Path]:
        """The folders of the stages that it read, by their role."""
        return {role: self.folder.parent / name for role, name in self.identity["inputs"].items() if name}


def explanation(results: Path, name: str) -> Iterator[str]:
    """Lines that say what a stage, or every stage of a trial, was made from.

    Args:
        results: A results folder, or the folder above several.
        name: A stage's id, or a trial as `ARM seed N`.

    Raises:
        UserError: there is none of this name, or it has left no identity.
    """
    for folder in _folders(results, name):
        made = _read(folder)
        record = _undamaged(read_record, folder, RECORD)
        yield terminal(f"{folder.name} ({record.status if record else 'not finished'}) in {folder.parent}")
        for field, value in _flat(made.identity):
            yield terminal(f"  {field}: {value}")


def difference(results: Path, first: str, second: str) -> Iterator[str]:
    """Lines that name every field in which two stages, or the stages of two trials, differ, inputs included.

    Raises:
        UserError: as `explanation`.
    """
    ones, others = _folders(results, first), _folders(results, second)
    told: set[tuple[str, str]] = set()
    for place in range(max(len(ones), len(others))):
        if place >= min(len(ones), len(others)):
            alone = (ones if place < len(ones) else others)[place]
            yield terminal(f"{alone.name}: only {first if place < len(ones) else second} has it")
        else:
            yield from _differences(ones[place], others[place], told)
    if not told:
        yield "no field differs"


def _differences(one: Path, other: Path, told: set[tuple[str, str]]) -> Iterator[str]:
    """Differences of two stages, then those of their inputs: what differs there is why the inputs' ids do."""
    if one.name == other.name or (one.name, other.name) in told:
        return
    told.add((one.name, other.name))
    first, second = _read(one), _read(other)
    yield terminal(f"{one.name} and {other.name}")
    left, right = dict(_flat(first.identity)), dict(_flat(second.identity))
    for field in dict.fromkeys([*left, *right]):
        if left.get(field) != right.get(field):
            yield terminal(f"  {field}: {left.get(field, NOTHING)} | {right.get(field, NOTHING)}")
    for role in dict.fromkeys([*first.inputs, *second.inputs]):
        if role in first.inputs and role in second.inputs:
            yield from _differences(first.inputs[role], second.inputs[role], told)


def _folders(results: Path, name: str) -> list[Path]:
    """The stage's folder, or those of the trial's stages."""
    comparisons = [results] if (results / COMPARISON).is_file() else sorted(results.glob(f"*/{COMPARISON}"))
    comparisons = [path.parent if path.is_file() else path for path in comparisons]
    stages = [folder / name for folder in comparisons if name and (folder / name / IDENTITY).is_file()]
    if stages:
        return stages[:1]  # in another comparison it is the same
    trials = [
        (folder, trial)
        for folder in comparisons
        if (trial := _trial(_undamaged(read_plan, folder, COMPARISON), name))
    ]
    if len(trials) > 1:
        where = ", ".join(str(folder) for folder, _ in trials)
        raise UserError(f"{name}: must be in one comparison, it is in {where}. Name one with --results.")
    if not trials:
        raise UserError(
            f"{name}: must be a stage's id, such as sft-0123456789ab, or a trial, such as `orpo seed 0`, of a run below "
            f"{results}; there is none."
        )
    folder, trial = trials[0]
    return [
        folder / stage
        for stage in [*trial.preparation, *trial.billed(), *trial.evaluations, *trial.judgements]
    ]


def _trial(plan: Plan, name: str) -> Trial | None:
    return next((trial for trial in plan.trials if trial.label() == name), None)


def _undamaged(read: Callable[[Path], Kept], folder: Path, file: str) -> Kept:
    """What `read` reads from the file of that name in `folder`."""
    try:
        return read(folder)
    except ValueError as error:  # pydantic's is one
        raise UserError(f"{folder / file}: is damaged. Delete it and run again.") from error


def _read(folder: Path) -> Made:
    path = folder / IDENTITY
    if not path.exists():
        raise UserError(
            f"{folder}: has no {IDENTITY}: it was not run yet, or by a version that did not keep it."
        )
    identity = read_identity(folder)
    if not identity or not isinstance(identity.get("inputs", {}), dict):
        raise UserError(f"{path}: is damaged. Delete the folder {folder.name} and run again.")
    return Made(folder, identity)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of the leaves and their values; what is empty is left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif value is not None:
        yield prefix, value
