"""The items behind every number: which pairs are measured, their rows, and the means over them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.metrics import is_metric
from pipelines.errors import NotFinite, PipelineError
from pipelines.evaluations import Split
from pipelines.outcomes import EvaluateOutcome

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What a group of evaluations found.

    Attributes:
        items: One row an item: `item`, its id, `prompt`, the hash of its prompt, and numbers. A row has only the
            columns that it has a value for.
        logs: Further rows to keep beside the items, by file name.
    """

    items: list[Row]
    logs: dict[str, list[Row]] = field(default_factory=dict)


def chosen_pairs(data: Path, split: Split, max_items: int | None) -> list[dict[str, Any]]:
    """The first `max_items` pairs of a split in order of their uid: the same ones for every model.

    Raises:
        PipelineError: the split has no pairs.
    """
    from pipelines.data.prepared import read_outcome, read_split  # heavy; judges need none of it

    # By the count: datasets 5.2 saves a split without rows but cannot load it again.
    if read_outcome(data).splits[split].num_pairs == 0:
        raise PipelineError(f"the {split} split has no pairs: there is nothing to evaluate on")
    rows: list[dict[str, Any]] = read_split(data, split).to_list()
    return sorted(rows, key=lambda row: row["uid"])[:max_items]


def prompt_id(pair: Mapping[str, Any]) -> str:
    """What items from one prompt have in common: a hash of the prompt's ids. The verdict averages over them first."""
    return hashlib.sha256(json.dumps(pair["prompt_ids"]).encode()).hexdigest()[:16]


def outcome_of(
    group: Literal["preference", "generation", "benchmarks", "drift", "judge"], items: Iterable[Row]
) -> EvaluateOutcome:
    """The plain mean of every column that is a metric.

    Raises:
        NotFinite: a value is NaN or infinite.
    """
    columns: dict[str, list[float]] = {}
    for row in items:
        for name, value in row.items():
            if is_metric(name):
                if not math.isfinite(value):
                    raise NotFinite(
                        f"{name} of item {row['item']} is {value}: the model's numbers are broken"
                    )
                columns.setdefault(name, []).append(float(value))
    return EvaluateOutcome(
        group=group,
        means={name: math.fsum(values) / len(values) for name, values in columns.items()},
        num_items={name: len(values) for name, values in columns.items()},
    )


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows` as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
