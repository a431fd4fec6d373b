"""The tables of scores (seeds x items) behind every metric, from the per-item files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.intervals import FloatArray, cluster_means
from harness.items import Column
from harness.metrics import METRICS, TRAIN_PREFIX, WIN_PREFIX, is_metric, metric
from harness.plan import Trial
from harness.results import Results
from harness.verdict import Scores


@dataclass(frozen=True)
class Table:
    """One model's scores on one metric.

    Attributes:
        planned: Every seed that was to be trained.
        seeds: One a row; None is a model that all seeds share.
        items: Ids of the items, sorted: those that every row has.
        clusters: For each item what it belongs to: the hash of its prompt, or the item itself.
        values: (seeds, items).
    """

    planned: tuple[int, ...]
    seeds: tuple[int | None, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    values: FloatArray

    @property
    def shared(self) -> bool:
        """Whether all seeds share the one model."""
        return self.seeds == (None,)

    def on(self, items: tuple[str, ...]) -> FloatArray:
        """The columns of some of its items, in their order."""
        return self.values[:, self._places(items)]

    def units(self, items: tuple[str, ...] | None = None) -> FloatArray:
        """Scores of independent units, (seeds, clusters): items from one prompt are averaged.

        Args:
            items: Only these of its items; all if None.
        """
        items = self.items if items is None else items
        return cluster_means(self.on(items), [self.clusters[place] for place in self._places(items)])

    def _places(self, items: tuple[str, ...]) -> list[int]:
        place = {item: index for index, item in enumerate(self.items)}
        return [place[item] for item in items]


Tables = dict[str, dict[str, Table]]  # model, metric


def score_tables(results: Results, trials: list[Trial]) -> dict[str, Table]:
    """A table for each metric that at least one of the trials of a model was measured on."""
    columns: dict[str, dict[int | None, Column]] = {}
    for trial in trials:
        for stage_id in [*trial.evaluations, *trial.judgements]:
            for name, column in results.items.get(stage_id, {}).items():
                # Whom a win is against is not in the items: harness/win_rates.py has those tables.
                if is_metric(name) and not name.startswith(WIN_PREFIX):
                    by_seed = columns.setdefault(name, {})
                    earlier = by_seed.get(trial.seed)
                    by_seed[trial.seed] = column if earlier is None else earlier.followed_by(column)
    planned = tuple(trial.seed for trial in trials if trial.seed is not None)
    return {name: _table(columns[name], planned) for name in sorted(columns, key=_order)}


def tables_of_models(results: Results) -> Tables:
    """The tables of every model, controls first."""
    return {name: score_tables(results, trials) for name, trials in results.models().items()}


def shared_items(first: Table, second: Table) -> tuple[str, ...]:
    """The items that both models were measured on."""
    return tuple(sorted(set(first.items) & set(second.items)))


def scores_of(model: str, metric_name: str, table: Table, *, items: tuple[str, ...]) -> Scores:
    """A model's scores on some items of its table, turned so that more is better."""
    sign = -1.0 if metric(metric_name).direction == "lower" else 1.0
    return Scores(
        name=model,
        planned=table.planned,
        seeds=tuple(seed for seed in table.seeds if seed is not None),
        values=sign * table.units(items),
    )


def _table(by_seed: dict[int | None, Column], planned: tuple[int, ...]) -> Table:
    items = tuple(
        sorted(set.intersection(*(set(ids) for ids in {column.items for column in by_seed.values()})))
    )
    values = np.empty((len(by_seed), len(items)))
    clusters: tuple[str, ...] = ()
    before: tuple[str, ...] | None = None
    for row, column in enumerate(by_seed.values()):
        if column.items != before:  # nearly always the same in every seed
            place = {item: index for index, item in enumerate(column.items)}
            order, before = [place[item] for item in items], column.items
            clusters = tuple(column.clusters[at] for at in order)
        values[row] = column.values[order]
    return Table(planned, tuple(by_seed), items, clusters, values)


def _order(name: str) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(name) if name in METRICS else len(known) + name.startswith(TRAIN_PREFIX), name)
