"""What a sweep says of two published claims: how much tuning an arm needs, and which of ORPO's betas are useful."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.claim_fields import holds_if_worse, numbers
from harness.contrasts import family_of
from harness.plan import Trial
from harness.results import Results
from harness.scores import Table, score_tables
from harness.summary_schema import Claim, ClaimStatus, SweepSummary, SweptArm
from harness.sweep import Point, points_of, sweep_metric

FOOTGUNS = "fewer footguns"
BETA_RANGE = "beta 0.05 to 0.2 is the useful range, anything higher crushes the SFT signal"
USEFUL_BETA = (0.05, 0.2)
MIDDLE_BETA = 0.1


def fewer_footguns(
    results: Results, sweep: SweepSummary, pair: tuple[str, str], alpha: float
) -> Claim | None:
    """Whether more of ORPO's points lie near its best than of the other arm's; None where not both were swept."""
    from scipy.stats import fisher_exact

    arms = [sweep.arms.get(name) for name in pair]
    if any(arm is None or arm.num_within_margin is None for arm in arms):
        return None
    counts = [(arm.num_within_margin or 0, len(arm.points)) for arm in arms if isinstance(arm, SweptArm)]
    p_value = float(fisher_exact(np.array([[near, of - near] for near, of in counts])).pvalue)
    difference = counts[0][0] / counts[0][1] - counts[1][0] / counts[1][1]
    status: ClaimStatus = "cannot tell"
    if p_value <= alpha:
        status = "holds" if difference > 0 else "does not hold"
    told = ", ".join(
        f"{name} {near} of {of} points ({sum(p.num_failed_seeds > 0 for p in arm.points)} lost a seed)"
        for name, (near, of), arm in zip(pair, counts, arms, strict=True)
        if arm is not None
    )
    return Claim(
        name="fewer_footguns",
        claim=FOOTGUNS,
        case=f"points within {sweep.margin:g} of the arm's best on {sweep.metric}: {told}",
        status=status,
        quantity=f"share of points near the best, {pair[0]} minus {pair[1]}",
        value=difference,
        num_seeds=results.plan.comparison.sweep.seeds if results.plan.comparison.sweep else 0,
        reason=f"holds if the share is detected to be larger, fails if smaller (Fisher's exact test, p = {p_value:.2g}); "
        "which points were tried decides the shares",
        evidence=_evaluations(_trials(results, pair)),
    )


def swept_betas(results: Results, arm: str, alpha: float) -> Iterator[Claim]:
    """A row for each beta of a sweep above the range, against the one in the middle of it, on validation items."""
    points = {beta: point for point in points_of(results.plan.comparison, arm) if (beta := _only_beta(point))}
    low, high = USEFUL_BETA
    inside = [beta for beta in points if low <= beta <= high]
    if not inside:
        return
    middle = min(inside, key=lambda beta: abs(math.log(beta / MIDDLE_BETA)))
    above = [beta for beta in points if beta > high]
    tables: dict[str, dict[str, Table]] = {
        points[beta].name: score_tables(results, _of_point(results, points[beta]))
        for beta in (middle, *above)
    }
    metric = sweep_metric(results.plan.comparison)
    for found in family_of(
        tables, [(metric, points[beta].name, points[middle].name) for beta in above], alpha
    ):
        beta = next(beta for beta in above if points[beta].name == found.pair[0])
        told = f"{metric}, beta {beta:g} minus {middle:g}, turned so that more is better"
        yield Claim(
            **(numbers(found) | {"quantity": told}),
            name="useful_beta_range",
            claim=BETA_RANGE,
            case=f"{arm}, sweep: beta {beta:g} against {middle:g} on {metric}, validation items",
            status=holds_if_worse(found),
            reason="holds if the higher beta was detected to be worse, fails if better; p corrected by Holm",
            evidence=_evaluations([*_of_point(results, points[beta]), *_of_point(results, points[middle])]),
        )


def _only_beta(point: Point) -> float | None:
    """The point's beta if it changes nothing else."""
    keys = list(point.changes)
    beta = point.changes[keys[0]] if len(keys) == 1 and keys[0].endswith(".arguments.beta") else None
    return float(beta) if isinstance(beta, int | float) and beta > 0 else None


def _of_point(results: Results, point: Point) -> list[Trial]:
    return [trial for trial in results.plan.trials if trial.name == point.name]


def _trials(results: Results, arms: tuple[str, str]) -> list[Trial]:
    return [t for t in results.plan.trials if t.role == "point" and t.name.rpartition("@")[0] in arms]


def _evaluations(trials: list[Trial]) -> list[str]:
    return list(dict.fromkeys(stage for trial in trials for stage in trial.evaluations))
