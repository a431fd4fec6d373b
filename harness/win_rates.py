"""From matches to win rates, with what may have misled a judge, and to the metric `win_rate_<judge>`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.intervals import FloatArray, cluster_means, estimate_mean
from harness.judged import TIE, Judged, SeedMatches, categories_of, judged, seed_matches
from harness.length_control import length_controlled
from harness.matches import judged_pairs, reference_opponent
from harness.metrics import WIN_PREFIX
from harness.results import Results
from harness.scores import Table, Tables, tables_of_models
from harness.win_rate_schema import CategoryRate, NoWinRate, Rate, WinRate
from pipelines.judge_settings import Judge

ALPHA = 0.05  # intervals are shown at 95 %, as those of single means
MOST_CATEGORIES = 20


def win_rates(results: Results) -> tuple[list[WinRate], list[NoWinRate]]:
    """Every judge on every two models of which it judged matches, and those of which nothing can be said."""
    comparison = results.plan.comparison
    rates: list[WinRate] = []
    without: list[NoWinRate] = []
    for judge in comparison.evaluations.judges:
        for pair in judged_pairs(comparison):
            seeds = seed_matches(results, judge, *pair)
            table = judged(seeds)
            if table is not None:
                categories = categories_of(results, judge, pair[0])
                rates.append(_win_rate(judge, pair, seeds, table, categories))
            elif seeds:
                without.append(_no_win_rate(judge, pair, seeds))
    return rates, without


def tables_with_win_rates(results: Results) -> Tables:
    """The tables of every model with the metric `win_rate_<judge>`: each against the same control, which ties with itself."""
    comparison = results.plan.comparison
    opponent = reference_opponent(comparison)
    found = tables_of_models(results)
    if opponent is None:
        return found
    for judge in comparison.evaluations.judges:
        metric = WIN_PREFIX + judge.name
        for name in found:
            table = judged(seed_matches(results, judge, name, opponent)) if name != opponent else None
            if table is not None:
                found[name][metric] = _table(results, name, table, table.wins)
                if opponent in found:
                    found[opponent].setdefault(metric, _tied(results, opponent, table))
    return found


def _win_rate(
    judge: Judge,
    pair: tuple[str, str],
    seeds: Sequence[SeedMatches],
    table: Judged,
    categories: dict[str, str],
) -> WinRate:
    controlled = length_controlled(table.wins, table.length_differences, table.clusters)
    bias = _rate(table.wins_shown_first, _clusters(table, table.placed)) if table.placed else None
    first, last = table.by_order
    return WinRate(
        judge=judge.name,
        kind=judge.kind,
        pair=pair,
        rate=_rate(table.wins, table.clusters),
        wins=_share(table.wins > TIE, table.clusters),
        ties=_share(table.wins == TIE, table.clusters),
        losses=_share(table.wins < TIE, table.clusters),
        num_seeds=len(table.seeds),
        num_seeds_without_verdict=len(seeds) - len(table.seeds),
        num_items=len(table.items),
        num_items_left_out=table.num_left_out,
        num_unparsable=sum(seed.num_without_verdict for seed in seeds),
        length_controlled=None if isinstance(controlled, str) else _rate(controlled.values, table.clusters),
        length_effect=None if isinstance(controlled, str) else controlled.effect,
        length_reason=controlled if isinstance(controlled, str) else None,
        position_bias=bias,
        inconsistent=float((first != last).mean()) if first.size else None,
        categories=list(_by_category(table, categories)),
    )


def _no_win_rate(judge: Judge, pair: tuple[str, str], seeds: Sequence[SeedMatches]) -> NoWinRate:
    return NoWinRate(
        judge=judge.name,
        pair=pair,
        num_seeds=len(seeds),
        num_matches=sum(len(seed.clusters) for seed in seeds),
        num_unparsable=sum(seed.num_without_verdict for seed in seeds),
    )


def _by_category(table: Judged, categories: dict[str, str]) -> Iterator[CategoryRate]:
    places: dict[str, list[int]] = {}
    for place, item in enumerate(table.items):
        if item in categories:
            places.setdefault(categories[item], []).append(place)
    for name, chosen in sorted(places.items(), key=lambda one: (-len(one[1]), one[0]))[:MOST_CATEGORIES]:
        rate = _rate(table.wins[:, chosen], _clusters(table, chosen))
        yield CategoryRate(category=name, rate=rate, num_items=len(chosen))


def _share(matches: NDArray[np.bool_], clusters: Sequence[str]) -> float:
    """Of (seeds, items) matches those that are so; prompts weigh the same, as in the rate."""
    return float(cluster_means(matches.astype(np.float64), clusters).mean())


def _rate(values: FloatArray, clusters: Sequence[str]) -> Rate:
    """The mean of (seeds, items) values over seeds and prompts, with its interval."""
    units = cluster_means(values, clusters)
    if min(units.shape) < 2:
        return Rate(mean=float(units.mean()))
    estimate = estimate_mean(units)
    mean, half = float(estimate.difference), float(estimate.half_width(ALPHA))
    return Rate(mean=mean, low=mean - half, high=mean + half)


def _clusters(table: Judged, places: Sequence[int]) -> list[str]:
    return [table.clusters[place] for place in places]


def _table(results: Results, model: str, table: Judged, values: FloatArray) -> Table:
    planned = tuple(trial.seed for trial in results.models()[model] if trial.seed is not None)
    return Table(planned, table.seeds, table.items, table.clusters, values)


def _tied(results: Results, opponent: str, table: Judged) -> Table:
    """The control against itself: a tie on every prompt, by definition."""
    trials = results.models()[opponent]
    seeds = tuple(trial.seed for trial in trials)
    tied = _table(results, opponent, table, np.full((len(seeds), len(table.items)), TIE))
    return Table(tied.planned, seeds, tied.items, tied.clusters, tied.values)
