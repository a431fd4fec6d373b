"""What a metric is made of: the gold score by part, the weights' distance by layer; means over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.plan import Trial
from harness.records import GOLD_PART, WEIGHTS_BY_LAYER
from harness.results import Results


def gold_parts(results: Results, trials: Sequence[Trial]) -> dict[str, float]:
    """The mean of each part of the gold score over a model's greedy replies; empty where none was scored."""
    by_seed = [
        {
            name.removeprefix(GOLD_PART): float(column.values.mean())
            for name, column in results.items[stage_id].items()
            if name.startswith(GOLD_PART)
        }
        for trial in trials
        for stage_id in results.evaluations(trial, "generation")
    ]
    return _means(by_seed)


def changes_by_layer(results: Results, trials: Sequence[Trial]) -> dict[str, float]:
    """The norm of each layer's change over that of the base's layer, in the order of the model; empty where it was not measured.

    A layer of zeros that has moved is not in it.
    """
    by_seed = [
        {
            row["layer"]: row["relative"]
            for row in results.rows(stage_id, WEIGHTS_BY_LAYER)
            if row["relative"] is not None
        }
        for trial in trials
        for stage_id in results.evaluations(trial, "drift")
    ]
    return _means(by_seed)


def _means(by_seed: Iterable[dict[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for of_seed in by_seed:
        for name, value in of_seed.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(found) / len(found) for name, found in values.items()}
