"""The report's tables, made from the summary and the records. They format numbers and compute none."""

from __future__ import annotations

from collections.abc import Iterable

from harness.hostile import cell, escaped, without_paths
from harness.markdown import table
from harness.numbers import (
    bytes_text,
    count,
    interval,
    number,
    p_text,
    with_interval,
)
from harness.plan import Trial
from harness.records import Missing, Record
from harness.results import Results
from harness.summary_schema import Summary
from pipelines.stages import TrainOutcome


def verdict_table(summary: Summary) -> str:
    """The verdict's numbers, with the rule behind them."""
    verdict = summary.verdict
    needed = verdict.seeds_needed
    rows = [
        ("outcome", escaped(verdict.outcome)),
        ("why", escaped(verdict.reason or "the rule below")),
        ("primary metric", escaped(verdict.metric)),
        ("difference", with_interval(verdict.difference, verdict.low, verdict.high, signed=True)),
        (f"{100 * (1 - verdict.alpha):g} % interval", interval(verdict.low, verdict.high, signed=True)),
        ("p-value", p_text(verdict.p_value)),
        ("declared margin", f"{verdict.margin:g}"),
        ("form of the interval", verdict.form or "none"),
        ("seeds in each arm", str(verdict.num_seeds)),
        ("items", str(verdict.num_items)),
        ("seeds that would decide it", f"{needed[0]} to {needed[1]}" if needed else "not applicable"),
        ("hash of the declared rule", f"`{verdict.decision_hash[:12]}`"),
    ]
    return table(["verdict", "value"], rows, align="ll")


def costs_table(summary: Summary) -> str:
    """What training each model costs."""
    rows = []
    for name, model in summary.models().items():
        cost = model.cost
        if name == "base":
            continue
        rows.append(
            (
                escaped(name),
                number(cost.train_seconds),
                number(cost.total_seconds),
                bytes_text(cost.peak_memory_bytes),
                count(cost.num_pairs_seen),
                count(cost.num_policy_tokens),
                count(cost.num_reference_tokens),
                str(len(cost.by_seed)),
            )
        )
    head = [
        "model",
        "train s",
        "total s",
        "peak memory",
        "pairs",
        "policy tokens",
        "reference tokens",
        "seeds",
    ]
    return table(head, rows)


def stages_table(results: Results) -> str:
    """What each training stage of each arm costs, means over its finished seeds."""
    rows = []
    for name, trials in results.models().items():
        if trials[0].role != "arm":
            continue
        for place in range(len(trials[0].training)):
            records = [done for trial in trials if (done := results.done(trial.training[place]))]
            costs = [record.cost for record in records if record.cost]
            outcomes = [record.outcome for record in records if isinstance(record.outcome, TrainOutcome)]
            if not costs or not outcomes:
                continue
            rows.append(
                (
                    escaped(name),
                    f"{place + 1}. {records[0].stage.kind}",
                    number(sum(cost.train_seconds for cost in costs) / len(costs)),
                    bytes_text(max(cost.peak_memory_bytes for cost in costs)),
                    count(sum(outcome.num_steps for outcome in outcomes) / len(outcomes)),
                    count(sum(outcome.num_policy_tokens for outcome in outcomes) / len(outcomes)),
                    count(sum(outcome.num_reference_tokens for outcome in outcomes) / len(outcomes)),
                )
            )
    if not rows:
        return "Not measured: no training stage finished."
    head = ["arm", "stage", "train s", "peak memory", "steps", "policy tokens", "reference tokens"]
    return table(head, rows, align="llrrrrr")


def spent_table(summary: Summary) -> str:
    """What the whole run took, each distinct stage once."""
    rows = [(kind.kind, str(kind.num_stages), number(kind.total_seconds)) for kind in summary.spent]
    total = sum(kind.total_seconds for kind in summary.spent)
    rows.append(("all", str(sum(kind.num_stages for kind in summary.spent)), number(total)))
    return table(["kind of stage", "stages", "total s"], rows)


def quality_table(summary: Summary) -> str:
    """Every metric of every model, with its seeds."""
    rows = []
    for name in summary.metric_names():
        first = True
        for model, about in summary.models().items():
            if name not in about.metrics:
                continue
            found = about.metrics[name]
            better = {"higher": "higher", "lower": "lower", "none": "neither"}[found.direction]
            rows.append(
                (
                    escaped(name) if first else "",
                    f"{better} ({found.unit})" if first else "",
                    escaped(model),
                    with_interval(found.mean, found.low, found.high),
                    interval(found.low, found.high),
                    " ".join(number(value) for value in found.by_seed) or "one model for all seeds",
                    str(found.num_items),
                )
            )
            first = False
    head = ["metric", "better (unit)", "model", "mean", "95 % interval", "by seed", "items"]
    return table(head, rows, align="lllrrlr")


def splits_table(summary: Summary) -> str:
    """Pairs and tokens of each split."""
    splits = summary.data.splits if summary.data else {}
    rows = [
        (
            name,
            count(split.num_pairs),
            count(split.num_prompt_tokens),
            count(split.num_chosen_tokens),
            count(split.num_rejected_tokens),
        )
        for name, split in splits.items()
    ]
    return table(["split", "pairs", "prompt tokens", "chosen tokens", "rejected tokens"], rows)


def dropped_table(summary: Summary) -> str | None:
    """Rows that could not serve, by reason; None where all serve."""
    if summary.data is None or not summary.data.dropped:
        return None
    rows = [
        (cell(reason.reason), count(reason.num_rows), ", ".join(map(str, reason.first_rows)))
        for reason in summary.data.dropped
    ]
    return table(["reason", "rows", "first row numbers, from 0"], rows, align="lrl")


def failures_table(summary: Summary) -> str | None:
    """Stages that did not finish; None where all did."""
    if not summary.failures:
        return None
    rows = [
        (
            f"`{failure.stage}`",
            failure.status.replace("_", " "),
            escaped(", ".join(failure.trials[:4]) + (" ..." if len(failure.trials) > 4 else "")),
            cell(failure.message),
        )
        for failure in summary.failures
    ]
    return table(["stage", "status", "needed for", "message"], rows, align="llll")


def environment_table(results: Results) -> str:
    """Machine, versions and commit of the stages; several values where they differ."""
    records = list(results.records.values())
    stages = results.plan.stages
    device_memory = [record.machine.accelerator_memory_bytes for record in records]
    rows = [
        ("processor", _values(record.machine.processor for record in records)),
        ("cores", _values(record.machine.num_cores for record in records)),
        ("memory", _values(bytes_text(record.machine.memory_bytes) for record in records)),
        ("accelerator", _values(record.machine.accelerator or "none" for record in records)),
        ("accelerator memory", _values(bytes_text(memory) for memory in device_memory if memory)),
        ("driver", _values(record.machine.driver or "none" for record in records)),
        ("device, CPU threads", _values(f"{stage.device}, {stage.threads}" for stage in stages)),
        ("git commit", _values(record.git_commit or "not in a repository" for record in records)),
        ("stages started (UTC)", _span(records)),
        *((name, _values(r.versions.get(name, "absent") for r in records)) for name in _libraries(records)),
    ]
    return table(["what", "value"], [row for row in rows if row[1]], align="ll")


def trials_table(results: Results) -> str:
    """Which stage folders stand behind each trial, so that a number can be followed to its file."""
    rows = [
        (escaped(_label(trial)), _ids(trial.training), _ids(trial.evaluations))
        for trials in results.models().values()
        for trial in trials
    ]
    return table(["trial", "training stages", "evaluation stages"], rows, align="lll")


def not_measured(results: Results, summary: Summary) -> list[str]:
    """What a reader could expect on the page and what was not measured, with the reason."""
    found = []
    missing = {
        cost.peak_device_memory_bytes.reason
        for name, model in summary.models().items()
        if name != "base" and isinstance((cost := model.cost).peak_device_memory_bytes, Missing)
    }
    if missing:
        found.append(f"device memory: {escaped('; '.join(sorted(missing)))}")
    found.append("energy: no meter reads it in this version")
    if results.plan.comparison.price_per_hour is None:
        found.append("money: the config gives no `price_per_hour`")
    for name in ("preference", "generation", "benchmarks"):
        if getattr(results.plan.comparison.evaluations, name) is None:
            found.append(f"{name}: the config has no `evaluations.{name}`")
    return found


def _libraries(records: list[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.versions))


def _values(values: Iterable[object]) -> str:
    return "; ".join(cell(without_paths(str(value))) for value in dict.fromkeys(values))


def _span(records: list[Record]) -> str:
    times = sorted(record.started_at for record in records if record.started_at)
    return f"{cell(times[0])} to {cell(times[-1])}" if times else ""


def _ids(stage_ids: list[str]) -> str:
    return " ".join(f"`{stage_id}`" for stage_id in stage_ids) or "none"


def _label(trial: Trial) -> str:
    return trial.name if trial.seed is None else f"{trial.name} seed {trial.seed}"
