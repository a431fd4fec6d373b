"""Who won which match: from the items of the judges' stages to one table of wins, seeds x items, of two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.intervals import FloatArray
from harness.items import Column
from harness.matches import matched
from harness.metrics import SCORE_PREFIX, WIN_PREFIX
from harness.plan import Trial
from harness.records import ITEMS, REPLY_ID
from harness.results import Results
from pipelines.judge_settings import Judge, mode_of
from pipelines.stages import JudgeSettings

TIE = 0.5


@dataclass(frozen=True)
class SeedMatches:
    """The matches of two models in one seed, by item.

    Attributes:
        seed: Of the first model.
        clusters: Of every item that was judged, with a verdict or without: what it belongs to.
        wins: Of items with a verdict: 1 where the first model wins, 0.5 for a tie, 0 where it loses.
        length_differences: Tokens of the first reply less those of the second.
        by_order: The wins with the first reply shown first, and shown last; a judge that sees one order has each item in
            one of the two.
    """

    seed: int | None
    clusters: dict[str, str]
    wins: dict[str, float]
    length_differences: dict[str, float]
    by_order: tuple[dict[str, float], dict[str, float]] = ({}, {})

    @property
    def wins_shown_first(self) -> dict[str, float]:
        """Of each item, the win of the reply that was shown first; the mean where both orders were."""
        found: dict[str, list[float]] = {}
        for item, win in self.by_order[0].items():
            found.setdefault(item, []).append(win)
        for item, win in self.by_order[1].items():
            found.setdefault(item, []).append(1 - win)
        return {item: sum(wins) / len(wins) for item, wins in found.items()}

    @property
    def num_without_verdict(self) -> int:
        """Matches without a verdict."""
        return len(self.clusters) - len(self.wins)


@dataclass(frozen=True)
class Judged:
    """One judge on two models: every seed with a verdict, every item with one in each of these seeds.

    Attributes:
        seeds: Of the first model, one a row.
        items: Sorted.
        clusters: What each item belongs to.
        wins: (seeds, items): 1 where the first model wins, 0.5 for a tie, 0 where it loses.
        length_differences: (seeds, items), tokens of the first reply less those of the second.
        placed: Places of the items of which every seed has a verdict that tells which reply was shown first.
        wins_shown_first: (seeds, placed items): the win of the reply that was shown first.
        by_order: (2, seeds, items with a verdict by each order in every seed): the wins with the first reply shown first,
            and shown last.
        num_left_out: Items that were judged and lack a verdict in one of the seeds.
    """

    seeds: tuple[int | None, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    wins: FloatArray
    length_differences: FloatArray
    placed: tuple[int, ...]
    wins_shown_first: FloatArray
    by_order: FloatArray
    num_left_out: int


def seed_matches(results: Results, judge: Judge, first: str, second: str) -> list[SeedMatches]:
    """What a judge said of two models, each seed by itself; seeds in which it did not finish are not there."""
    models = results.models()
    of_seed = _from_scores if mode_of(judge) == "score" else _from_verdicts
    return [
        found
        for trial, other in matched(models.get(first, []), models.get(second, []))
        if (found := of_seed(results, judge, trial, other)) is not None
    ]


def judged(seeds: Sequence[SeedMatches]) -> Judged | None:
    """One complete table, as every interval needs: an item without a verdict in one seed is left out of all.

    A seed without any verdict says nothing of the models and is left out itself. None where nothing is left.
    """
    seeds = [seed for seed in seeds if seed.wins]
    items = sorted(set.intersection(*(set(seed.wins) for seed in seeds))) if seeds else []
    if not items:
        return None
    asked = set.union(*(set(seed.clusters) for seed in seeds))
    shown_first = [seed.wins_shown_first for seed in seeds]
    placed = [place for place, item in enumerate(items) if all(item in wins for wins in shown_first)]
    orders = [order for seed in seeds for order in seed.by_order]
    in_both = [item for item in items if all(item in order for order in orders)]
    return Judged(
        seeds=tuple(seed.seed for seed in seeds),
        items=tuple(items),
        clusters=tuple(seeds[0].clusters[item] for item in items),
        wins=np.array([[seed.wins[item] for item in items] for seed in seeds]),
        length_differences=np.array([[seed.length_differences[item] for item in items] for seed in seeds]),
        placed=tuple(placed),
        wins_shown_first=np.array([[wins[items[place]] for place in placed] for wins in shown_first]),
        by_order=np.array(
            [[[seed.by_order[place][item] for item in in_both] for seed in seeds] for place in (0, 1)]
        ),
        num_left_out=len(asked) - len(items),
    )


def categories_of(results: Results, judge: Judge, model: str) -> dict[str, str]:
    """The category of each item that a judge saw of a model; empty where the data has none."""
    trials = results.models()[model]
    stage_id = next(name for trial in trials for name in _stages(results, judge, trial))
    rows = results.rows(stage_id, ITEMS)
    return {row["item"]: str(row["category"]) for row in rows if "category" in row}


def _from_verdicts(results: Results, judge: Judge, trial: Trial, other: Trial) -> SeedMatches | None:
    for stage_id in _stages(results, judge, trial):
        if results.stage(stage_id).inputs.opponent in other.evaluations:
            columns = results.items[stage_id]
            return SeedMatches(
                trial.seed,
                _clusters(columns["unparsable"]),
                _by_item(columns.get(WIN_PREFIX + judge.name)),
                _by_item(columns["length_difference"]),
                (_by_item(columns.get("win_shown_first")), _by_item(columns.get("win_shown_last"))),
            )
    return None


def _from_scores(results: Results, judge: Judge, trial: Trial, other: Trial) -> SeedMatches | None:
    """The reply with the higher score wins; equal scores are a tie, and so are equal replies, whatever their scores.

    A model's scores of one text may differ in their last bits with the batch around it.
    """
    stages = [next(_stages(results, judge, one), None) for one in (trial, other)]
    if stages[0] is None or stages[1] is None:
        return None
    own, others = results.items[stages[0]], results.items[stages[1]]
    column = own[SCORE_PREFIX + judge.name]
    scores, against = _by_item(column), _by_item(others[SCORE_PREFIX + judge.name])
    lengths, other_lengths = (_by_item(columns["num_tokens"]) for columns in (own, others))
    texts, other_texts = (_by_item(columns.get(REPLY_ID)) for columns in (own, others))
    shared = [item for item in scores if item in against]

    def win(item: str) -> float:
        if item in texts and texts[item] == other_texts.get(item):
            return TIE
        return float(1 + np.sign(scores[item] - against[item])) / 2

    clusters = _clusters(column)
    return SeedMatches(
        trial.seed,
        {item: clusters[item] for item in shared},
        {item: win(item) for item in shared},
        {item: lengths[item] - other_lengths[item] for item in shared},
    )


def _stages(results: Results, judge: Judge, trial: Trial) -> Iterator[str]:
    """Ids of the judge's finished stages on the trial's replies."""
    for stage_id in trial.judgements:
        settings = results.stage(stage_id).settings
        assert isinstance(settings, JudgeSettings)
        if settings.judge.name == judge.name and stage_id in results.items:
            yield stage_id


def _clusters(column: Column) -> dict[str, str]:
    return dict(zip(column.items, column.clusters, strict=True))


def _by_item(column: Column | None) -> dict[str, float]:
    return {} if column is None else dict(zip(column.items, column.values.tolist(), strict=True))
