"""What a sweep says of the published claim on how much tuning an arm needs."""

from __future__ import annotations

import numpy as np

from harness.claim_fields import evaluations_of
from harness.results import Results
from harness.summary_schema import Claim, ClaimStatus, SweepSummary, SweptArm

FOOTGUNS = "fewer footguns"


def fewer_footguns(
    results: Results, sweep: SweepSummary, pair: tuple[str, str], alpha: float
) -> Claim | None:
    """Whether more of ORPO's points lie near its best than of the other arm's; None where not both were swept."""
    from scipy.stats import fisher_exact
    from statsmodels.stats.proportion import confint_proportions_2indep

    arms = [sweep.arms.get(name) for name in pair]
    if any(arm is None or arm.num_within_margin is None for arm in arms):
        return None
    counts = [(arm.num_within_margin or 0, len(arm.points)) for arm in arms if isinstance(arm, SweptArm)]
    p_value = float(fisher_exact(np.array([[near, of - near] for near, of in counts])).pvalue)
    difference = counts[0][0] / counts[0][1] - counts[1][0] / counts[1][1]
    (near, of), (other_near, other_of) = counts
    low, high = confint_proportions_2indep(near, of, other_near, other_of, method="newcomb", alpha=alpha)
    status: ClaimStatus = "cannot tell"
    if p_value <= alpha:
        status = "holds" if difference > 0 else "does not hold"
    points = [name for name in results.models_and_points() if "@" in name and name.rpartition("@")[0] in pair]
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
        low=float(low),
        high=float(high),
        num_seeds=results.plan.comparison.sweep.seeds if results.plan.comparison.sweep else 0,
        reason=f"holds if the share is detected to be larger, fails if smaller (Fisher's exact test, p = {p_value:.2g}); "
        "the interval is Newcombe's, for other points of the kind that were tried: which were decides the shares",
        evidence=evaluations_of(results, *points),
    )
