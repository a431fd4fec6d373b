"""Whether a finished stage's files still say what its record says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.items import Column, read_items
from harness.records import ITEMS, RECORD, Record, sound_record
from harness.rows import FORMS
from pipelines.outcomes import EvaluateOutcome, Outcome

Standing = Literal["whole", "light", "absent"]

# Folders that a stage leaves for those that start from it, by the kind of its outcome.
PRODUCTS = {
    "data": ("splits", "tokenizer"),
    "train": ("model",),
    "reference": ("logps",),
    "calibrate": (),
    "base": ("model",),
    "reward": ("model",),
    "evaluate": (),
}
GIVEN_UP = "given_up.json"  # beside a record whose weights were removed on purpose
OUTDATED = (
    "outdated.json"  # beside a record of what a run has set out to make again, its input being made again
)
ROWS = {ITEMS, *FORMS}  # what reports read; they stay where weights are given up
TOLERANCE = 1e-9  # means are sums of floats in one order; JSON keeps every bit of them


def standing(folder: Path) -> Standing:
    """How far the stage in `folder` can be relied on.

    Returns:
        `whole`: it has left the record of a success, and its files are there and agree with it. `light`: the same, but
        its weights were given up on purpose (`keep_weights`, `prefduel gc`), so nothing can start from it. `absent`:
        anything else; also a record without weights as a repository keeps it, and what is outdated.
    """
    record = sound_record(folder)
    if record is None or record.status != "done" or record.outcome is None or (folder / OUTDATED).is_file():
        return "absent"
    if damage(folder, record):
        return "absent"
    if all((folder / name).is_dir() for name in PRODUCTS[record.outcome.kind]):
        return "whole"
    return "light" if (folder / GIVEN_UP).is_file() else "absent"


def refuse_other_than_folder(folder: Path) -> None:
    """Refuse a stage's folder that is none; one that is not there may be made.

    Raises:
        UserError: something else stands in its place.
    """
    if folder.is_symlink() and not folder.exists():
        raise UserError(
            f"{folder}: is a link that leads nowhere. Bring back what it led to, or delete it and run again."
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: must be a folder, is none. Delete it and run again.")


def damage(folder: Path, record: Record) -> str | None:
    """What is wrong with the files of a finished stage, naming the file; None if nothing is."""
    try:
        checked_items(folder, record.outcome, record.files)
    except ValueError as error:
        return str(error)
    return None


def checked_items(folder: Path, outcome: Outcome | None, files: Mapping[str, str]) -> dict[str, Column]:
    """The items of a finished evaluation, which the verdict is computed from; nothing for another stage.

    Args:
        folder: A finished stage's.
        outcome: As its record has it.
        files: The same; of these the files of rows are looked at.

    Raises:
        ValueError: they are not there, a value is none that a stage writes, or their number or mean is not the record's;
            or any file of rows is not what the stage left. Names the file.
    """
    columns = _items(folder, outcome) if isinstance(outcome, EvaluateOutcome) else {}
    rows = {name: digest for name, digest in files.items() if name in ROWS}
    if problem := _first_changed(folder, rows):
        raise ValueError(problem)
    return columns


def _items(folder: Path, outcome: EvaluateOutcome) -> dict[str, Column]:
    try:
        columns = read_items(folder / ITEMS)
    except OSError as error:
        raise ValueError(f"{folder / ITEMS}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{folder / ITEMS}: {error}") from error
    for name, mean in outcome.means.items():
        found, expected = columns.get(name), outcome.num_items.get(name, 0)
        count = 0 if found is None else len(found.items)
        if found is None or count != expected:
            raise ValueError(f"{folder / ITEMS}: {name} has {count} items, {RECORD} says {expected}")
        if not math.isclose(math.fsum(found.values) / count, mean, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ValueError(f"{folder / ITEMS}: the mean of {name} is not that of {RECORD}")
    return columns


def hashes_of_files(folder: Path, kind: str) -> dict[str, str]:
    """SHA-256 of every file that later stages or reports read, by its path in `folder`."""
    products = (path for name in PRODUCTS[kind] for path in sorted((folder / name).rglob("*")))
    rows = (folder / name for name in sorted(ROWS))
    files = [path for path in (*products, *rows) if path.is_file()]
    return {str(path.relative_to(folder)): _hash(path) for path in files}


def damaged_file(folder: Path, record: Record) -> str | None:
    """The first file that is not what the stage left, in words; None if all are (or an old record has no hashes)."""
    return _first_changed(folder, record.files)


def _first_changed(folder: Path, files: Mapping[str, str]) -> str | None:
    for name, digest in files.items():
        try:
            if _hash(folder / name) != digest:
                return f"{folder.name}/{name} is not what its stage wrote"
        except OSError as error:
            return f"{folder.name}/{name}: {error.strerror}"
    return None


def is_intact(folder: Path) -> bool:
    """Whether every file of a finished stage that others read is what it wrote: reads them all."""
    record = sound_record(folder)
    return record is not None and damaged_file(folder, record) is None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
