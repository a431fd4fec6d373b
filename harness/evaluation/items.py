"""The items behind every number: their rows, and the means over them. Judges use it as well, so it reads no data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.metrics import is_metric
from pipelines.errors import NotFinite
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import LARGEST_VALUE

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


def outcome_of(
    group: Literal["preference", "generation", "benchmarks", "drift", "judge"], items: Iterable[Row]
) -> EvaluateOutcome:
    """The plain mean of every column that is a metric.

    Raises:
        NotFinite: a value is NaN, infinite or too large for the statistics.
    """
    columns: dict[str, list[float]] = {}
    for row in items:
        for name, value in row.items():
            if is_metric(name):
                if not abs(value) <= LARGEST_VALUE:
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
