"""The tables of scores (seeds x items) behind every metric, from the per-item files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.items import Column
from harness.metrics import BENCHMARK_PREFIX, METRICS
from harness.plan import Trial
from harness.results import Results
from harness.verdict import FloatArray


@dataclass(frozen=True)
class Table:
    """One model's scores on one metric.

    Attributes:
        seeds: One a row; None is a model that all seeds share.
        items: Ids of the items, sorted: those that every row has.
        values: (seeds, items).
    """

    seeds: tuple[int | None, ...]
    items: tuple[str, ...]
    values: FloatArray

    def on(self, items: tuple[str, ...]) -> FloatArray:
        """The columns of some of its items, in their order."""
        place = {item: index for index, item in enumerate(self.items)}
        return self.values[:, [place[item] for item in items]]


def score_tables(results: Results, trials: list[Trial]) -> dict[str, Table]:
    """A table for each metric that at least one of the trials of a model was measured on."""
    columns: dict[str, dict[int | None, Column]] = {}
    for trial in trials:
        for stage_id in trial.evaluations:
            for name, column in results.items.get(stage_id, {}).items():
                if name in METRICS or name.startswith(BENCHMARK_PREFIX):
                    by_seed = columns.setdefault(name, {})
                    earlier = by_seed.get(trial.seed)
                    by_seed[trial.seed] = column if earlier is None else earlier.followed_by(column)
    return {name: _table(columns[name]) for name in sorted(columns, key=_order)}


def _table(by_seed: dict[int | None, Column]) -> Table:
    items = tuple(
        sorted(set.intersection(*(set(ids) for ids in {column.items for column in by_seed.values()})))
    )
    values = np.empty((len(by_seed), len(items)))
    before: tuple[str, ...] | None = None
    for row, column in enumerate(by_seed.values()):
        if column.items != before:  # nearly always the same in every seed
            place = {item: index for index, item in enumerate(column.items)}
            order, before = [place[item] for item in items], column.items
        values[row] = column.values[order]
    return Table(tuple(by_seed), items, values)


def _order(name: str) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(name) if name in METRICS else len(known), name)
