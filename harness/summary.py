"""Makes `summary.json` from a results folder: metrics, costs, verdict, doubts. Every number is computed here, once."""

from __future__ import annotations

from pathlib import Path

from harness.costs import cost_of, cost_ratios, spent
from harness.doubts import doubts
from harness.hostile import without_paths
from harness.metrics import metric
from harness.recommendation import recommendation
from harness.records import write_json
from harness.results import Results, read_results
from harness.scores import Table, score_tables
from harness.summary_schema import (
    SUMMARY,
    CostQuantity,
    CostRatio,
    FailureSummary,
    MetricSummary,
    ModelSummary,
    Summary,
    VerdictSummary,
)
from harness.verdict import INCOMPLETE, Rule, Scores, Verdict, estimate_mean, item_interval, judge

MEAN_ALPHA = 0.05  # intervals of single means are shown at 95 % whatever the verdict's alpha
DECLARED_COST: dict[str, CostQuantity] = {
    "seconds": "train_seconds",
    "peak_memory": "peak_memory_bytes",
    "money": "money",
}
Tables = dict[str, dict[str, Table]]  # model, metric


def summarise(folder: Path) -> Summary:
    """Summarise a results folder and write its `summary.json`.

    Raises:
        UserError: `folder` is not a results folder, or a file in it is damaged.
    """
    summary = make_summary(read_results(folder))
    write_json(folder / SUMMARY, summary.model_dump(mode="json", by_alias=True))
    return summary


def make_summary(results: Results) -> Summary:
    """Summarise what was read; writes nothing."""
    trials = results.models()
    tables = {name: score_tables(results, of_model) for name, of_model in trials.items()}
    models = {
        name: ModelSummary(
            metrics={key: _metric_summary(key, table) for key, table in tables[name].items()},
            cost=cost_of(results, of_model),
        )
        for name, of_model in trials.items()
    }
    arms = {name: model for name, model in models.items() if trials[name][0].role == "arm"}
    first, second = results.plan.comparison.decision.compare
    ratios = (
        cost_ratios(results, models[first].cost, models[second].cost)
        if first in models and second in models
        else []
    )
    summary = Summary(
        comparison=results.plan.comparison.name,
        arms=arms,
        controls={name: model for name, model in models.items() if name not in arms},
        verdict=_verdict_summary(results, tables, ratios),
        cost_ratios=ratios,
        doubts=[],
        failures=_failures(results),
        data=results.data(),
        spent=spent(results),
    )
    return summary.model_copy(update={"doubts": doubts(results, summary)})


def _metric_summary(name: str, table: Table) -> MetricSummary:
    seeds = [seed for seed in table.seeds if seed is not None]
    low, high = _mean_interval(table, shared=not seeds)
    about = metric(name)
    return MetricSummary(
        by_seed=[float(value) for value in table.values.mean(1)] if seeds else [],
        seeds=seeds,
        mean=float(table.values.mean()),
        low=low,
        high=high,
        direction=about.direction,
        unit=about.unit,
        num_items=len(table.items),
    )


def _mean_interval(table: Table, *, shared: bool) -> tuple[float | None, float | None]:
    if len(table.items) < 2 or (len(table.seeds) < 2 and not shared):
        return None, None
    if shared:
        return item_interval(table.values[0], MEAN_ALPHA)
    estimate = estimate_mean(table.values)
    mean, half = float(estimate.difference), float(estimate.half_width(MEAN_ALPHA))
    return mean - half, mean + half


def _verdict_summary(results: Results, tables: Tables, ratios: list[CostRatio]) -> VerdictSummary:
    decision = results.plan.comparison.decision
    verdict = _judge(results, tables)
    ratio = next((ratio for ratio in ratios if ratio.quantity == DECLARED_COST[decision.cost]), None)
    return VerdictSummary(
        outcome=verdict.outcome,
        metric=decision.metric,
        difference=verdict.difference,
        low=verdict.low,
        high=verdict.high,
        p_value=verdict.p_value,
        num_seeds=verdict.num_seeds,
        num_items=verdict.num_items,
        seeds_needed=verdict.seeds_needed,
        recommendation=recommendation(verdict, decision, ratio),
        reason=verdict.reason,
        compare=decision.compare,
        margin=decision.margin,
        alpha=decision.alpha,
        form=verdict.form,
        decision_hash=results.plan.decision_hash,
        cost_ratio=ratio,
    )


def _judge(results: Results, tables: Tables) -> Verdict:
    decision = results.plan.comparison.decision
    found = [tables.get(name, {}).get(decision.metric) for name in decision.compare]
    items = sorted(set.intersection(*(set(table.items) if table else set() for table in found)))
    if len(items) < 2:
        reason = "; ".join(
            f"{name} has no finished measurement of {decision.metric}"
            for name, table in zip(decision.compare, found, strict=True)
            if table is None
        )
        nothing = None, None, None, None, None
        return Verdict(
            INCOMPLETE, *nothing, 0, len(items), reason=reason or "the arms share fewer than 2 items"
        )
    # Turned so that more is better in every metric.
    sign = -1.0 if metric(decision.metric).direction == "lower" else 1.0
    first, second = (
        Scores(
            name=name,
            planned=tuple(t.seed for t in results.plan.trials if t.name == name and t.seed is not None),
            seeds=tuple(seed for seed in table.seeds if seed is not None),
            values=sign * table.on(tuple(items)),
        )
        for name, table in zip(decision.compare, found, strict=True)
        if table is not None
    )
    return judge(first, second, Rule(margin=decision.margin, alpha=decision.alpha))


def _failures(results: Results) -> list[FailureSummary]:
    """Every stage that did not finish, in the order of the plan."""
    found = []
    for stage in results.plan.stages:
        record = results.records.get(stage.id)
        if record is not None and record.status == "done":
            continue
        message = record.failure.message if record and record.failure else ""
        if record is None:
            message = "not run: an input failed, or the run was stopped before"
        found.append(
            FailureSummary(
                stage=stage.id,
                status="not_run" if record is None else record.status,
                message=without_paths(message),
                trials=[trial.label() for trial in results.plan.trials if stage.id in trial.stages()],
            )
        )
    return found
