"""Makes `summary.json` from a results folder: metrics, costs, verdict, doubts. Every number is computed here, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.audit import Audit, audit
from harness.claims import claims
from harness.components import changes_by_layer, gold_parts
from harness.contrasts import baselines, secondary
from harness.cost_schema import CostQuantity, CostRatio
from harness.costs import cost_of, cost_ratios, spent
from harness.declared import rule_summary
from harness.diagnostics import near_ties, preference_diagnostics
from harness.diagnostics_schema import PreferenceDiagnostics
from harness.doubts import doubts
from harness.hiding import path_names, without_named
from harness.hostile import without_paths
from harness.intervals import FloatArray, estimate_mean, item_interval
from harness.judgement import aa_control, judge_results, outlier_seeds, rule_of
from harness.learning import displacements, learning_points, target_summary
from harness.metrics import metric
from harness.plan import Trial
from harness.recommendation import recommendation
from harness.records import write_json
from harness.regression import station_changes, station_likelihoods
from harness.results import Results, read_results
from harness.scores import Table
from harness.summary_schema import (
    SUMMARY,
    Contrast,
    FailureSummary,
    MetricSummary,
    ModelSummary,
    Summary,
    VerdictSummary,
)
from harness.sweep_summary import summarise_sweep
from harness.verdict import UNFAIR, Verdict
from harness.win_rates import tables_with_win_rates, win_rates

MEAN_ALPHA = 0.05  # intervals of single means are shown at 95 % whatever the verdict's alpha
DECLARED_COST: dict[str, CostQuantity] = {
    "seconds": "train_seconds",
    "peak_memory": "peak_memory_bytes",
    "money": "money",
}


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
    tables = tables_with_win_rates(results)
    models = {
        name: ModelSummary(
            metrics={key: _metric_summary(key, table) for key, table in tables[name].items()},
            cost=cost_of(results, of_model),
            diagnostics=_diagnostics(results, of_model),
            near_ties=near_ties(
                [
                    results.items[stage_id]
                    for trial in of_model
                    for stage_id in results.evaluations(trial, "generation")
                ]
            ),
            gold_parts=gold_parts(results, of_model),
            layers=changes_by_layer(results, of_model),
            learning=learning_points(results, of_model),
        )
        for name, of_model in trials.items()
    }
    arms = {name: model for name, model in models.items() if trials[name][0].role == "arm"}
    first, second = results.plan.comparison.decision.compare
    alpha = rule_of(results).alpha
    ratios = (
        cost_ratios(results, models[first].cost, models[second].cost, alpha=alpha)
        if first in models and second in models
        else []
    )
    against_controls = baselines(results, tables, alpha)
    audited = audit(results)
    verdict = _if_fair(judge_results(results, tables), audited)
    rates, without = win_rates(results)
    failures = _failures(results)
    summary = Summary(
        comparison=results.plan.comparison.name,
        arms=arms,
        controls={name: model for name, model in models.items() if name not in arms},
        verdict=_verdict_summary(results, verdict, ratios, against_controls, failures=failures),
        cost_ratios=ratios,
        changes=station_changes(trials, tables),
        likelihoods=station_likelihoods(tables),
        displacements=displacements(results, trials),
        target=target_summary(results, trials, alpha),
        doubts=[],
        sweep=summarise_sweep(results),
        failures=failures,
        data=results.data(),
        spent=spent(results),
        rule=rule_summary(results),
        baselines=against_controls,
        secondary=secondary(results, tables, alpha),
        aa_control=aa_control(results, tables),
        outlier_seeds=outlier_seeds(results, tables),
        audit=audited,
        win_rates=rates,
        without_win_rate=without,
    )
    return summary.model_copy(
        update={
            "doubts": doubts(results, summary),
            "claims": claims(
                results, tables, models, summary.sweep, summary.target, fair=verdict.outcome != UNFAIR
            ),
        }
    )


def _diagnostics(results: Results, trials: list[Trial]) -> list[PreferenceDiagnostics]:
    found = [
        preference_diagnostics(results.items[stage_id], seed=trial.seed)
        for trial in trials
        for stage_id in results.evaluations(trial, "preference")
    ]
    return [one for one in found if one is not None]


def _if_fair(verdict: Verdict, audited: Audit) -> Verdict:
    """The verdict, or `unfair` with the reason where the audit found the arms treated unalike."""
    failed = audited.failed()
    if not failed:
        return verdict
    first = f"{failed[0].id}: {failed[0].evidence}"
    others = len(failed) - 1
    more = f"; {others} more check{'s' if others > 1 else ''} failed" if others else ""
    return replace(verdict, outcome=UNFAIR, reason=f"{first}{more}", seeds_needed=None)


def _metric_summary(name: str, table: Table) -> MetricSummary:
    seeds = [seed for seed in table.seeds if seed is not None]
    values = table.units()
    about = metric(name)
    if not table.items:
        return MetricSummary(
            by_seed=[],
            seeds=[],
            mean=None,
            low=None,
            high=None,
            direction=about.direction,
            unit=about.unit,
            num_items=0,
        )
    low, high = _mean_interval(values, shared=table.shared)
    return MetricSummary(
        by_seed=[float(value) for value in values.mean(1)] if seeds else [],
        seeds=seeds,
        mean=float(values.mean()),
        low=low,
        high=high,
        direction=about.direction,
        unit=about.unit,
        num_items=values.shape[1],
    )


def _mean_interval(values: FloatArray, *, shared: bool) -> tuple[float | None, float | None]:
    num_seeds, num_items = values.shape
    if num_items < 2 or (num_seeds < 2 and not shared):
        return None, None
    if shared:
        return item_interval(values[0], MEAN_ALPHA)
    estimate = estimate_mean(values)
    mean, half = float(estimate.difference), float(estimate.half_width(MEAN_ALPHA))
    return mean - half, mean + half


def _verdict_summary(
    results: Results,
    verdict: Verdict,
    ratios: list[CostRatio],
    baselines: list[Contrast],
    *,
    failures: list[FailureSummary],
) -> VerdictSummary:
    decision = results.plan.comparison.decision
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
        recommendation=recommendation(
            verdict,
            decision,
            ratio,
            baselines,
            failed=any(failure.status != "not_run" for failure in failures),
            missing=bool(failures),
            left_out=[name for name in decision.compare if name not in results.models()],
        ),
        reason=verdict.reason,
        compare=decision.compare,
        margin=decision.margin,
        alpha=rule_of(results).alpha,
        form=verdict.form,
        decision_hash=results.plan.decision_hash,
        cost_ratio=ratio,
    )


def _failures(results: Results) -> list[FailureSummary]:
    """Every stage that did not finish, in the order of the plan."""
    found, names = [], path_names(results.plan.comparison)
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
                message=without_paths(without_named(message, names)),
                advice=record.failure.advice if record and record.failure else "",
                trials=[trial.label() for trial in results.plan.trials if stage.id in trial.stages()],
            )
        )
    return found
