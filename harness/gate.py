"""Whether results are worse, or dearer, than a baseline's: for a CI job. The statistics are the verdict's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from harness.cost_schema import CostQuantity, CostSummary
from harness.costs import BY_THE_CLOCK, cost_ratios
from harness.hostile import terminal
from harness.judgement import rule_of
from harness.matches import reference_opponent
from harness.metrics import WIN_PREFIX
from harness.numbers import TOO_WIDE, interval, number, ratio_with_interval, with_interval
from harness.results import Results
from harness.scores import Tables, scores_of, shared_items
from harness.sentences import COST_WORDS, SIDE_BY_SIDE
from harness.summary import DECLARED_COST, make_summary
from harness.summary_schema import Summary
from harness.verdict import INCOMPLETE, judge
from harness.win_rates import tables_with_win_rates


@dataclass(frozen=True)
class Finding:
    """One comparison that the gate made.

    Attributes:
        text: One line.
        fails: Whether the gate fails for it.
    """

    text: str
    fails: bool


def findings(
    results: Results, baseline: Results, *, max_cost_ratio: float | None = None
) -> Iterator[Finding]:
    """Every arm against itself in the baseline: the declared metric, then the declared cost.

    An arm fails when it is worse than in the baseline by more than the margin and the interval of that difference
    excludes 0; when its cost is more than the declared ratio; and when it cannot be judged: a gate that sees nothing
    must not open.

    Args:
        results: What is judged, by its own declared rule.
        baseline: What it is judged against.
        max_cost_ratio: In place of the config's `nightly.max_cost_ratio`.
    """
    tables, before = (tables_with_win_rates(each) for each in (results, baseline))
    summary, summary_before = make_summary(results), make_summary(baseline)
    most = results.plan.comparison.nightly.max_cost_ratio if max_cost_ratio is None else max_cost_ratio
    arms = dict.fromkeys([*summary_before.arms, *summary.arms])
    for arm in arms:
        if arm not in summary_before.arms:
            yield Finding(f"{arm}: not in the baseline, so not judged", fails=False)
        elif arm not in summary.arms:
            yield Finding(f"{arm}: in the baseline, but not here", fails=True)
        else:
            yield _quality(arm, results, baseline, tables, before)
            yield _cost(arm, results, baseline, summary, summary_before, most)
    machines = [_hardware(each) for each in (results, baseline)]
    if machines[0] != machines[1]:
        told = " and ".join(", ".join(sorted(found)) or "nothing" for found in machines)
        yield Finding(f"costs: measured on other hardware than the baseline's ({told})", fails=False)


def gate_line(finding: Finding) -> str:
    """A finding on one line of a terminal."""
    return terminal(f"{'FAIL' if finding.fails else 'ok  '} {finding.text}")


def _quality(arm: str, results: Results, baseline: Results, tables: Tables, before: Tables) -> Finding:
    name = results.plan.comparison.decision.metric
    against, against_before = (reference_opponent(each.plan.comparison) for each in (results, baseline))
    if name.startswith(WIN_PREFIX) and against and against_before and against != against_before:
        told = f"it is against {against} here and against {against_before} in the baseline"
        return Finding(f"{arm}: {name} cannot be judged: {told}", fails=True)
    here, there = tables.get(arm, {}).get(name), before.get(arm, {}).get(name)
    if here is None or there is None:
        where = "here" if here is None else "in the baseline"
        return Finding(f"{arm}: {name} cannot be judged: it was not measured {where}", fails=True)
    items = shared_items(here, there)
    now, then = (scores_of(arm, name, table, items=items) for table in (here, there))
    if now.values.shape[1] < 2:
        return Finding(f"{arm}: {name} cannot be judged: fewer than 2 items are the baseline's", fails=True)
    rule = rule_of(results)
    verdict = judge(now, then, rule)
    if verdict.outcome == INCOMPLETE or verdict.difference is None or verdict.high is None:
        return Finding(f"{arm}: {name} cannot be judged: {verdict.reason}", fails=True)
    change = (
        f"{with_interval(verdict.difference, verdict.low, verdict.high, signed=True)}, "
        f"{100 * (1 - rule.alpha):g} % interval {interval(verdict.low, verdict.high, signed=True)} "
        f"({verdict.num_seeds} seeds, {verdict.num_items} items; above 0 is better; margin {rule.margin:g})"
    )
    worse = verdict.high < 0 and verdict.difference < -rule.margin
    said = "got worse by more than the margin" if worse else "not shown to be worse by more than the margin"
    return Finding(f"{arm}: {name} {said}: {change}", fails=worse)


def _cost(
    arm: str, results: Results, baseline: Results, summary: Summary, before: Summary, most: float
) -> Finding:
    quantity = DECLARED_COST[results.plan.comparison.decision.cost]
    now, then = summary.arms[arm].cost, before.arms[arm].cost
    words = COST_WORDS[quantity].removeprefix("the ")
    if quantity in BY_THE_CLOCK and now.relaxed != then.relaxed:
        side_by_side, alone = ("here", "in the baseline") if now.relaxed else ("in the baseline", "here")
        told = f"stages ran side by side {side_by_side} (metering: relaxed), and alone {alone}"
        return Finding(f"{arm}: {words} cannot be compared: {told}", fails=True)
    taken_over = _taken_over(arm, results, baseline)
    now = now.model_copy(update={"by_seed": [seed for seed in now.by_seed if seed.seed not in taken_over]})
    if taken_over and not now.by_seed:
        return Finding(f"{arm}: {words} was not measured anew: every seed's is the baseline's", fails=False)
    paired = cost_ratios(results, now, then, alpha=rule_of(results).alpha)
    found = next((ratio for ratio in paired if ratio.quantity == quantity), None)
    if found is not None:
        _, bounds = ratio_with_interval(found.ratio, found.low, found.high)
        said = bounds if bounds == TOO_WIDE or found.low is None else f"interval {bounds}"
        ratio, sure = found.ratio, f", {said}, {found.num_seeds} seed{'s' * (found.num_seeds != 1)}"
    else:  # other seeds than the baseline's: means over seeds
        above, below = (_over_seeds(cost, quantity) for cost in (now, then))
        if not above or not below:
            return Finding(f"{arm}: {words} cannot be compared: not measured in both", fails=True)
        ratio, sure = above / below, ", of means over other seeds"
    told = f"{number(ratio)} times the baseline's (at most {most:g}{sure})"
    if quantity in BY_THE_CLOCK and now.relaxed:
        told += f", {SIDE_BY_SIDE}"
    return Finding(f"{arm}: {words} is {told}", fails=ratio > most)


def _taken_over(arm: str, results: Results, baseline: Results) -> set[int]:
    """Seeds whose training the results have from the baseline: a cost that is compared with itself is no measurement."""
    known = {trial.seed: trial for trial in baseline.models()[arm]}
    return {
        trial.seed
        for trial in results.models()[arm]
        if trial.seed is not None
        and trial.seed in known
        and trial.billed() == known[trial.seed].billed()
        and all(results.records.get(one) == baseline.records.get(one) for one in trial.billed())
    }


def _over_seeds(cost: CostSummary, quantity: CostQuantity) -> float | None:
    """The mean over the seeds that count, as the summary has it of all; the highest where it is a peak."""
    field = "total_seconds" if quantity == "money" else quantity
    values = [value for seed in cost.by_seed if (value := getattr(seed, field)) is not None]
    if not values:
        return None
    if quantity == "peak_memory_bytes":
        return float(max(values))
    price = (
        cost.money / cost.total_seconds if quantity == "money" and cost.money and cost.total_seconds else 1
    )
    return price * math.fsum(values) / len(values)


def _hardware(results: Results) -> set[str]:
    machines = (record.machine for record in results.records.values())
    return {f"{machine.accelerator or machine.processor}" for machine in machines}
