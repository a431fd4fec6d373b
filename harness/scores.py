"""The tables of scores (seeds x items) behind every metric, from the per-item files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.metrics import BENCHMARK_PREFIX, METRICS
from harness.plan import Trial
from harness.records import ITEMS
from harness.results import Results
from harness.verdict import FloatArray

ByItem = dict[str, float]


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
    columns: dict[str, dict[int | None, ByItem]] = {}
    for trial in trials:
        for stage_id in trial.evaluations:
            if results.done(stage_id):
                for name, scores in _read_items(results, stage_id).items():
                    columns.setdefault(name, {}).setdefault(trial.seed, {}).update(scores)
    return {name: _table(columns[name]) for name in sorted(columns, key=_order)}


def _read_items(results: Results, stage_id: str) -> dict[str, ByItem]:
    found: dict[str, ByItem] = {}
    for row in results.rows(stage_id, ITEMS):
        for name, value in row.items():
            if name in METRICS or name.startswith(BENCHMARK_PREFIX):
                found.setdefault(name, {})[str(row["item"])] = float(value)
    return found


def _table(by_seed: dict[int | None, ByItem]) -> Table:
    items = tuple(sorted(set.intersection(*(set(scores) for scores in by_seed.values()))))
    values = np.array([[scores[item] for item in items] for scores in by_seed.values()], dtype=np.float64)
    return Table(tuple(by_seed), items, values)


def _order(name: str) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(name) if name in METRICS else len(known), name)
