"""Applies the declared rule to the tables of a results folder: verdict, A/A control, seeds that look like outliers."""

from __future__ import annotations

import numpy as np

from harness.intervals import p_value
from harness.results import Results
from harness.scores import Tables, scores_of, shared_items
from harness.seed_checks import (
    AA_MIN_SEEDS,
    OUTLIER_MIN_SEEDS,
    aa_estimate,
    aa_halves,
    outlier_p_values,
)
from harness.summary_schema import AAControl, OutlierSeed
from harness.verdict import INCOMPLETE, Rule, Scores, Verdict, judge, varies

OUTLIER_ALPHA = 0.05


def rule_of(results: Results) -> Rule:
    """The declared rule, with the alpha of one look."""
    decision = results.plan.comparison.decision
    return Rule(margin=decision.margin, alpha=decision.alpha / decision.looks)


def judge_results(results: Results, tables: Tables) -> Verdict:
    """The verdict on the primary metric, as the statistics have it."""
    return judge_arms(results, tables, results.plan.comparison.decision.compare)


def judge_arms(results: Results, tables: Tables, pair: tuple[str, str]) -> Verdict:
    """The declared rule applied to any two arms."""
    decision = results.plan.comparison.decision
    found = [tables.get(name, {}).get(decision.metric) for name in pair]
    first, second = found
    if first is None or second is None:
        missing = (
            f"{name} has no finished measurement of {decision.metric}"
            for name, table in zip(pair, found, strict=True)
            if table is None
        )
        return _nothing("; ".join(missing), num_items=0)
    for name, table in zip(pair, (first, second), strict=True):
        if not table.items:
            return _nothing(f"the seeds of {name} have no item of {decision.metric} in common", num_items=0)
    items = shared_items(first, second)
    arms = [
        scores_of(name, decision.metric, table, items=items)
        for name, table in zip(pair, (first, second), strict=True)
    ]
    if arms[0].values.shape[1] < 2:
        seeds = min(len(arm.seeds) for arm in arms)
        return _nothing(
            "the arms share fewer than 2 items", num_items=arms[0].values.shape[1], num_seeds=seeds
        )
    return judge(arms[0], arms[1], rule_of(results))


def aa_control(results: Results, tables: Tables) -> AAControl:
    """The first of the compared arms against itself on the primary metric."""
    arm = results.plan.comparison.decision.compare[0]
    scores = _own_scores(results, tables, arm)
    seeds = () if scores is None else scores.seeds
    of_first, of_second = aa_halves(len(seeds))
    halves = [seeds[row] for row in of_first], [seeds[row] for row in of_second]
    if scores is None or len(seeds) < AA_MIN_SEEDS:
        reason = f"not available: it needs {AA_MIN_SEEDS} seeds of {arm}, there are {len(seeds)}"
        return AAControl(arm=arm, seeds=halves, reason=reason)
    estimate = aa_estimate(scores.values)
    if not varies(estimate, scores.values):
        return AAControl(
            arm=arm, seeds=halves, reason=f"not available: in each half the seeds of {arm} have the same mean"
        )
    difference, half = float(estimate.difference), float(estimate.half_width(rule_of(results).alpha))
    return AAControl(
        arm=arm,
        seeds=halves,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p_value(estimate),
        alarm=abs(difference) > half,
    )


def outlier_seeds(results: Results, tables: Tables) -> list[OutlierSeed]:
    """Seeds of the compared arms whose mean on the primary metric lies too far from the arm's other seeds.

    Named by chance in at most 5 % of comparisons: Bonferroni over all seeds of both arms.
    """
    decision = results.plan.comparison.decision
    found_tables = ((name, tables.get(name, {}).get(decision.metric)) for name in decision.compare)
    arms = {
        name: table
        for name, table in found_tables
        if table and table.items and len(table.seeds) >= OUTLIER_MIN_SEEDS
    }
    looked_at = sum(len(table.seeds) for table in arms.values())
    found = []
    for name, table in arms.items():
        means = table.units().mean(1)
        for row, p in enumerate(outlier_p_values(means)):
            seed = table.seeds[row]
            if seed is not None and p * looked_at <= OUTLIER_ALPHA:
                found.append(
                    OutlierSeed(
                        arm=name,
                        seed=seed,
                        value=float(means[row]),
                        others=float(np.delete(means, row).mean()),
                        p_value=float(p * looked_at),
                    )
                )
    return found


def _own_scores(results: Results, tables: Tables, arm: str) -> Scores | None:
    """The arm's scores on all its own items; None where it has none."""
    name = results.plan.comparison.decision.metric
    table = tables.get(arm, {}).get(name)
    if table is None or len(set(table.clusters)) < 2:
        return None
    return scores_of(arm, name, table, items=table.items)


def _nothing(reason: str, *, num_items: int, num_seeds: int = 0) -> Verdict:
    return Verdict(INCOMPLETE, None, None, None, None, None, num_seeds, num_items, reason=reason)
