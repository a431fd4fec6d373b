"""Who won against whom: from the items of the judges' stages to win rates, and to the metric `win_rate_<judge>`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.intervals import FloatArray, cluster_means, estimate_mean
from harness.items import Column
from harness.length_control import length_controlled
from harness.matches import judged_pairs, matched, reference_opponent
from harness.metrics import SCORE_PREFIX, WIN_PREFIX
from harness.plan import Trial
from harness.records import ITEMS
from harness.results import Results
from harness.scores import Table, Tables
from harness.win_rate_schema import CategoryRate, Rate, WinRate
from pipelines.judge_settings import Judge, mode_of
from pipelines.stages import JudgeSettings

ALPHA = 0.05  # intervals are shown at 95 %, as those of single means
TIE = 0.5
MOST_CATEGORIES = 20


@dataclass(frozen=True)
class Judged:
    """One judge on two models, every seed that both have.

    Attributes:
        seeds: Of the first model, one a row.
        items: Sorted: those with a verdict in every seed.
        clusters: What each item belongs to.
        wins: (seeds, items): 1 where the first model wins, 0.5 for a tie, 0 where it loses.
        length_differences: (seeds, items), tokens of the first reply less those of the second.
        by_order: (2, seeds, items): the wins with the first reply shown first, and shown last; None if not asked so.
        categories: Of each item; empty where the data has none.
    """

    seeds: tuple[int | None, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    wins: FloatArray
    length_differences: FloatArray
    by_order: FloatArray | None
    num_unparsable: int
    categories: dict[str, str]

    def rate_of(self, values: FloatArray, places: Sequence[int] | None = None) -> Rate:
        """The mean of (seeds, items) values over seeds and prompts, with its interval."""
        chosen = range(len(self.items)) if places is None else places
        units = cluster_means(values[:, chosen], [self.clusters[place] for place in chosen])
        if min(units.shape) < 2:
            return Rate(mean=float(units.mean()))
        estimate = estimate_mean(units)
        mean, half = float(estimate.difference), float(estimate.half_width(ALPHA))
        return Rate(mean=mean, low=mean - half, high=mean + half)


def win_rates(results: Results) -> list[WinRate]:
    """Every judge on every two models that it compares, as far as both were judged."""
    comparison = results.plan.comparison
    return [
        _win_rate(judge, pair, found)
        for judge in comparison.evaluations.judges
        for pair in judged_pairs(comparison)
        if (found := _judged(results, judge, *pair)) is not None
    ]


def with_win_rates(results: Results, tables: Tables) -> Tables:
    """The tables with the metric `win_rate_<judge>`: each model against the same control, which ties with itself."""
    comparison = results.plan.comparison
    opponent = reference_opponent(comparison)
    found: Tables = {name: dict(of_model) for name, of_model in tables.items()}
    if opponent is None:
        return found
    for judge in comparison.evaluations.judges:
        metric = WIN_PREFIX + judge.name
        for name in tables:
            judged = _judged(results, judge, name, opponent) if name != opponent else None
            if judged is not None:
                found[name][metric] = _table(results, name, judged, judged.wins)
                if opponent in found:
                    found[opponent].setdefault(metric, _tied(results, opponent, judged))
    return found


def _win_rate(judge: Judge, pair: tuple[str, str], judged: Judged) -> WinRate:
    controlled = length_controlled(judged.wins, judged.length_differences)
    bias = inconsistent = None
    if judged.by_order is not None:
        first, last = judged.by_order
        bias = judged.rate_of((first + 1 - last) / 2)
        inconsistent = float((first != last).mean())
    return WinRate(
        judge=judge.name,
        kind=judge.kind,
        pair=pair,
        rate=judged.rate_of(judged.wins),
        wins=float((judged.wins > TIE).mean()),
        ties=float((judged.wins == TIE).mean()),
        losses=float((judged.wins < TIE).mean()),
        num_seeds=len(judged.seeds),
        num_items=len(judged.items),
        num_unparsable=judged.num_unparsable,
        length_controlled=None if isinstance(controlled, str) else judged.rate_of(controlled.values),
        length_effect=None if isinstance(controlled, str) else controlled.effect,
        length_reason=controlled if isinstance(controlled, str) else None,
        position_bias=bias,
        inconsistent=inconsistent,
        categories=_by_category(judged),
    )


def _by_category(judged: Judged) -> list[CategoryRate]:
    places: dict[str, list[int]] = {}
    for place, item in enumerate(judged.items):
        if item in judged.categories:
            places.setdefault(judged.categories[item], []).append(place)
    return [
        CategoryRate(category=name, rate=judged.rate_of(judged.wins, chosen), num_items=len(chosen))
        for name, chosen in sorted(places.items(), key=lambda one: (-len(one[1]), one[0]))[:MOST_CATEGORIES]
    ]


@dataclass(frozen=True)
class _Seed:
    """One seed's matches: columns by item, with what each item belongs to."""

    seed: int | None
    clusters: dict[str, str]
    wins: dict[str, float]
    length_differences: dict[str, float]
    by_order: tuple[dict[str, float], dict[str, float]]
    num_unparsable: int


def _judged(results: Results, judge: Judge, first: str, second: str) -> Judged | None:
    """None where the two models were not judged on a prompt in common."""
    models = results.models()
    seeds = [
        seed
        for trial, other in matched(models.get(first, []), models.get(second, []))
        if (seed := _seed(results, judge, trial, other)) is not None
    ]
    items = sorted(set.intersection(*(set(seed.wins) for seed in seeds))) if seeds else []
    if not items:
        return None
    both_orders = all(set(items) <= one.keys() for seed in seeds for one in seed.by_order)
    by_order = (
        np.array([[[seed.by_order[order][item] for item in items] for seed in seeds] for order in (0, 1)])
        if both_orders
        else None
    )
    return Judged(
        seeds=tuple(seed.seed for seed in seeds),
        items=tuple(items),
        clusters=tuple(seeds[0].clusters[item] for item in items),
        wins=np.array([[seed.wins[item] for item in items] for seed in seeds]),
        length_differences=np.array([[seed.length_differences[item] for item in items] for seed in seeds]),
        by_order=by_order,
        num_unparsable=sum(seed.num_unparsable for seed in seeds),
        categories=_categories(results, judge, models[first]),
    )


def _seed(results: Results, judge: Judge, trial: Trial, other: Trial) -> _Seed | None:
    if mode_of(judge) == "score":
        return _seed_from_scores(results, judge, trial, other)
    stage_id = next(
        (
            name
            for name in _stages(results, judge, trial)
            if results.stage(name).inputs.opponent in other.evaluations
        ),
        None,
    )
    wins = results.items[stage_id].get(WIN_PREFIX + judge.name) if stage_id else None
    if stage_id is None or wins is None:
        return None
    columns = results.items[stage_id]
    return _Seed(
        trial.seed,
        dict(zip(wins.items, wins.clusters, strict=True)),
        _by_item(wins),
        _by_item(columns["length_difference"]),
        (_by_item(columns.get("win_shown_first")), _by_item(columns.get("win_shown_last"))),
        int(columns["unparsable"].values.sum()),
    )


def _seed_from_scores(results: Results, judge: Judge, trial: Trial, other: Trial) -> _Seed | None:
    """The reply with the higher score wins; equal scores are a tie."""
    stages = [next(_stages(results, judge, one), None) for one in (trial, other)]
    if stages[0] is None or stages[1] is None:
        return None
    own, others = results.items[stages[0]], results.items[stages[1]]
    scores, against = (_by_item(columns[SCORE_PREFIX + judge.name]) for columns in (own, others))
    lengths, other_lengths = (_by_item(columns["num_tokens"]) for columns in (own, others))
    shared = [item for item in scores if item in against]
    column = own[SCORE_PREFIX + judge.name]
    return _Seed(
        trial.seed,
        dict(zip(column.items, column.clusters, strict=True)),
        {item: (1 + np.sign(scores[item] - against[item])) / 2 for item in shared},
        {item: lengths[item] - other_lengths[item] for item in shared},
        ({}, {}),
        0,
    )


def _stages(results: Results, judge: Judge, trial: Trial) -> Iterator[str]:
    """Ids of the judge's finished stages on the trial's replies."""
    for stage_id in trial.judgements:
        settings = results.stage(stage_id).settings
        assert isinstance(settings, JudgeSettings)
        if settings.judge.name == judge.name and stage_id in results.items:
            yield stage_id


def _categories(results: Results, judge: Judge, trials: Sequence[Trial]) -> dict[str, str]:
    stage_id = next(name for trial in trials for name in _stages(results, judge, trial))
    rows = results.rows(stage_id, ITEMS)
    return {row["item"]: str(row["category"]) for row in rows if "category" in row}


def _by_item(column: Column | None) -> dict[str, float]:
    return {} if column is None else dict(zip(column.items, column.values.tolist(), strict=True))


def _table(results: Results, model: str, judged: Judged, values: FloatArray) -> Table:
    planned = tuple(trial.seed for trial in results.models()[model] if trial.seed is not None)
    return Table(planned, judged.seeds, judged.items, judged.clusters, values)


def _tied(results: Results, opponent: str, judged: Judged) -> Table:
    """The control against itself: a tie on every prompt, by definition."""
    trials = results.models()[opponent]
    seeds = tuple(trial.seed for trial in trials)
    table = _table(results, opponent, judged, np.full((len(seeds), len(judged.items)), TIE))
    return Table(table.planned, seeds, table.items, table.clusters, table.values)
