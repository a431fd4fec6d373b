"""The scores of one evaluation, item by item, read from its `items.jsonl`. Every reader of scores comes here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from harness.records import PROMPT
from pipelines.stages import LARGEST_VALUE


@dataclass(frozen=True)
class Column:
    """One metric of one evaluation.

    Attributes:
        items: Ids, in the order of the file.
        clusters: What each belongs to: the hash of its prompt, or the item itself where the file does not say.
        values: As many.
    """

    items: tuple[str, ...]
    clusters: tuple[str, ...]
    values: NDArray[np.float64]

    def followed_by(self, other: Column) -> Column:
        """Both columns; of an item that is in both, the later value counts."""
        return Column(
            self.items + other.items,
            self.clusters + other.clusters,
            np.concatenate([self.values, other.values]),
        )


def read_items(path: Path) -> dict[str, Column]:
    """The numbers of an `items.jsonl` by name; what is not a number is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a JSON object with an `item`, or a number is not finite or above `LARGEST_VALUE`.
    """
    found: dict[str, Column] = {}
    for names, rows in groupby(_rows(path), key=tuple):  # a few runs of rows that have the same metrics
        values = dict(zip(names, zip(*map(dict.values, rows), strict=True), strict=True))
        items = tuple(map(str, values.pop("item")))
        # One tuple for all metrics, and for clusters where there are none: thousands of evaluations fit in memory.
        clusters = tuple(map(str, values.pop(PROMPT))) if PROMPT in values else items
        for name, of_rows in values.items():
            column = _numbers(name, items, clusters, of_rows)
            if column.items:
                found[name] = found[name].followed_by(column) if name in found else column
    return found


def _numbers(name: str, items: tuple[str, ...], clusters: tuple[str, ...], values: Sequence[Any]) -> Column:
    """The numbers among `values`, each with its item and cluster."""
    if not {float, int, bool}.issuperset(map(type, values)):
        kept = [place for place, value in enumerate(values) if isinstance(value, int | float)]
        items, clusters = (tuple(ids[place] for place in kept) for ids in (items, clusters))
        values = [values[place] for place in kept]
    try:
        numbers = np.array(values, dtype=np.float64)
        fits = bool((np.abs(numbers) <= LARGEST_VALUE).all())
    except OverflowError:  # JSON's whole numbers have no bound
        fits = False
    if not fits:
        place = next(place for place, value in enumerate(values) if not abs(value) <= LARGEST_VALUE)
        found = (
            f"{values[place]:g}" if isinstance(values[place], float) else "a whole number with more digits"
        )
        raise ValueError(
            f"{name} of item {items[place]} must be a finite number of at most {LARGEST_VALUE:g}, got {found}"
        )
    return Column(items, clusters, numbers)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Every line parsed, as one array: several times faster than line by line."""
    content = path.read_bytes().rstrip()
    if not content:
        return []
    try:
        rows: list[dict[str, Any]] = from_json(
            b"[" + content.replace(b"\n", b",") + b"]", cache_strings="all"
        )
        if {dict}.issuperset(map(type, rows)) and all(
            "item" in names for names, _ in groupby(rows, key=tuple)
        ):
            return rows
    except ValueError:
        pass
    lines = content.split(b"\n")
    number = next(number for number, line in enumerate(lines, start=1) if not _is_row(line))
    raise ValueError(f"line {number} is not JSON with an item and a value for each metric")


def _is_row(line: bytes) -> bool:
    try:
        row = from_json(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "item" in row
