"""What a sweep found: every point of every arm on the metric that chose among them."""

from __future__ import annotations

from harness.costs import cost_of
from harness.intervals import estimate_mean
from harness.metrics import metric
from harness.numbers import NOTHING
from harness.results import Results
from harness.scores import Table, score_tables
from harness.summary_schema import PointScore, PointSummary, SweepSummary, SweptArm
from harness.sweep import points_of, sweep_metric

SFT_SIGNAL = "chosen_nll"  # SFT's own loss
ALPHA = 0.05  # as the intervals of other means


def summarise_sweep(results: Results) -> SweepSummary | None:
    """The points with their scores; None where nothing was swept."""
    comparison = results.plan.comparison
    if comparison.sweep is None:
        return None
    name = sweep_metric(comparison)
    about, margin = metric(name), comparison.decision.margin
    has_margin = name == comparison.decision.metric  # it is declared in that metric's unit
    scores: dict[str, Table] = {}
    arms: dict[str, SweptArm] = {}
    for arm in comparison.arms:
        points = []
        for point in points_of(comparison, arm):
            trials = [trial for trial in results.plan.trials if trial.name == point.name]
            if not trials:
                continue
            tables = score_tables(results, trials)
            if name in tables:
                scores[point.name] = tables[name]
            chosen = results.plan.chosen.get(arm) == point.number
            cost = cost_of(results, trials)
            score = _score(tables.get(name))
            points.append(
                PointSummary(
                    **dict(score),
                    changes=dict(point.changes),
                    sft_signal=_score(tables[SFT_SIGNAL])
                    if SFT_SIGNAL in tables and name != SFT_SIGNAL
                    else None,
                    train_seconds=cost.train_seconds,
                    peak_memory_bytes=cost.peak_memory_bytes,
                    num_failed_seeds=len(trials) - len(score.by_seed),
                    chosen=chosen,
                )
            )
        if points:
            arms[arm] = SweptArm(
                points=points,
                num_within_margin=_near_the_best(points, margin, about.direction) if has_margin else None,
            )
    return SweepSummary(
        metric=name,
        direction=about.direction,
        unit=about.unit,
        margin=margin,
        num_items=min((table.units().shape[1] for table in scores.values()), default=0),
        arms=arms,
    )


def _score(table: Table | None) -> PointScore:
    values = table.units() if table and table.items else None  # what `choose` goes by
    by_seed = [] if values is None else [float(value) for value in values.mean(1)]
    low = high = None
    if values is not None and min(values.shape) >= 2:
        estimate = estimate_mean(values)
        middle, half = float(estimate.difference), float(estimate.half_width(ALPHA))
        low, high = middle - half, middle + half
    return PointScore(
        by_seed=by_seed, mean=None if values is None else float(values.mean()), low=low, high=high
    )


def _near_the_best(points: list[PointSummary], margin: float, direction: str) -> int | None:
    means = [point.mean for point in points if point.mean is not None]
    if not means:
        return None
    best = min(means) if direction == "lower" else max(means)
    # A point at the margin itself counts, on whichever side of it the last bit of the difference falls.
    return sum(abs(mean - best) <= margin + NOTHING for mean in means)
