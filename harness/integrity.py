"""Whether a finished stage's files still say what its record says."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import ValidationError

from harness.records import ITEMS, RECORD, Record, read_record
from pipelines.stages import EvaluateOutcome

# Folders that a stage leaves for those that start from it, by the kind of its outcome.
PRODUCTS = {
    "data": ("splits", "tokenizer"),
    "train": ("model",),
    "reference": ("logps",),
    "base": ("model",),
    "evaluate": (),
}
TOLERANCE = 1e-9  # means are sums of floats in one order; JSON keeps every bit of them


def is_done(folder: Path) -> bool:
    """Whether the stage in `folder` has left the record of a success, and its files are there and agree with it.

    A record without weights or tokens, as a repository keeps it, is not enough to go on from.
    """
    try:
        record = read_record(folder)
    except ValidationError:
        return False
    if record is None or record.status != "done" or record.outcome is None:
        return False
    products = PRODUCTS[record.outcome.kind]
    return all((folder / name).is_dir() for name in products) and damage(folder, record) is None


def damage(folder: Path, record: Record) -> str | None:
    """What is wrong with the files of a finished stage, naming the file; None if nothing is.

    The items of an evaluation are what the verdict is computed from: their number and mean must be the record's.
    """
    if not isinstance(record.outcome, EvaluateOutcome):
        return None
    try:
        columns = _columns(folder / ITEMS)
    except OSError as error:
        return f"{folder / ITEMS}: {error.strerror}"
    except ValueError as error:
        return f"{folder / ITEMS}: {error}"
    for name, mean in record.outcome.means.items():
        values = columns.get(name, [])
        if len(values) != record.outcome.num_items[name]:
            return f"{folder / ITEMS}: {name} has {len(values)} items, {RECORD} says {record.outcome.num_items[name]}"
        if not math.isclose(math.fsum(values) / len(values), mean, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return f"{folder / ITEMS}: the mean of {name} is not that of {RECORD}"
    return None


def _columns(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line).items()
            except (json.JSONDecodeError, AttributeError) as error:
                raise ValueError(f"line {number} is not JSON with a value for each metric") from error
            for name, value in row:
                if isinstance(value, int | float):
                    found.setdefault(name, []).append(value)
    return found
