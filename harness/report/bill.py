"""The bill: what training each model cost, by stage, alone and with sharing, and the ratio of the two arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.costs import cost_with_bounds
from harness.numbers import NOT_MEASURED, bytes_text, count, interval, number, with_interval
from harness.records import Missing
from harness.report.budget import budget_blocks
from harness.report.forecast import forecast_blocks
from harness.report.page import Block, Bullets, Code, Paragraph, Section, Table, Text, cut
from harness.report.view import View
from harness.sentences import COST_WORDS
from harness.summary_schema import CostQuantity, CostSummary
from pipelines.stages import TrainOutcome

PEAK_KINDS = {
    "resident": "Peak memory is the process's resident memory on the CPU, libraries included: it says nothing of a GPU.",
    "cuda_reserved": "Peak memory is the most that torch's allocator had reserved on the device.",
}


def bill_section(view: View) -> Section:
    """Seconds, memory, tokens and money, and what of it was not measured."""
    blocks: list[Block] = [*cut(_models(view), view.export)]
    blocks.append(
        Paragraph(
            (
                "Means over seeds of the sum over a model's training stages, each model by itself; the peak is the largest of "
                "any stage and seed. ",
                Code("train s"),
                ": training loops, and reference log-probs computed before them, with a 95 % interval over seeds; ",
                Code("total s"),
                ": from process start to record; ",
                Code("shared s"),
                ": the same, where a stage that serves several models (one SFT model for SFT alone and for DPO) is split "
                "evenly between them. Evaluation is not included.",
            )
        )
    )
    kinds = {model.cost.peak_memory_kind for model in view.summary.models().values()}
    blocks += [Paragraph(text) for kind, text in PEAK_KINDS.items() if kind in kinds]
    blocks += _ratios(view)
    blocks += budget_blocks(view)
    blocks += [Paragraph("By stage, means over the finished seeds:"), *_stages(view)]
    blocks.append(Paragraph("The whole run, each distinct stage once:"))
    blocks.append(_spent(view))
    blocks += forecast_blocks(view)
    blocks += [Paragraph("Not measured:"), Bullets(list(_not_measured(view)))]
    return Section("What it costs", blocks)


def _models(view: View) -> Table:
    priced = view.results.plan.comparison.price_per_hour is not None
    currency = view.results.plan.comparison.currency
    rows = []
    for name, model in view.summary.models().items():
        cost = model.cost
        if name == "base":
            continue
        train, low, high = cost_with_bounds(cost, "train_seconds")
        rows.append(
            (
                name,
                with_interval(train, low, high),
                "" if low is None else interval(low, high),
                number(cost.total_seconds),
                number(cost.shared_seconds),
                bytes_text(cost.peak_memory_bytes),
                count(cost.num_pairs_seen),
                count(cost.num_policy_tokens),
                count(cost.num_reference_tokens),
                *([number(cost.money)] if priced else []),
                str(len(cost.by_seed)),
            )
        )
    head = [
        "model", "train s", "95 % interval", "total s", "shared s", "peak memory", "pairs", "policy tokens",
        "reference tokens", *([f"money ({currency})"] if priced else []), "seeds",
    ]  # fmt: skip
    return Table(head, rows)


def _ratios(view: View) -> list[Block]:
    first, second = view.summary.verdict.compare
    models = view.summary.models()
    if not view.summary.cost_ratios or first not in models or second not in models:
        return [Paragraph(f"Ratio of {first} to {second}: not measured, no seed finished in both.")]
    rows = [
        (
            COST_WORDS[ratio.quantity].removeprefix("the "),
            *(_amount(models[name].cost, ratio.quantity) for name in (first, second)),
            with_interval(ratio.ratio, ratio.low, ratio.high),
            interval(ratio.low, ratio.high),
            str(ratio.num_seeds),
        )
        for ratio in view.summary.cost_ratios
    ]
    level = f"{100 * (1 - view.summary.verdict.alpha):g} % interval"
    table = Table(["cost", first, second, f"{first} / {second}", level, "seeds"], rows)
    return [
        Paragraph(
            "The two arms, paired by seed; the ratio is a geometric mean, below 1 the first is cheaper:"
        ),
        table,
    ]


def _amount(cost: CostSummary, quantity: CostQuantity) -> str:
    value = getattr(cost, quantity)
    if not isinstance(value, int | float):
        return NOT_MEASURED
    if quantity.endswith("_bytes"):
        return bytes_text(int(value))
    if quantity == "num_policy_tokens":
        return count(value)
    return f"{number(value)} {cost.currency if quantity == 'money' else 's'}"


def _stages(view: View) -> list[Block]:
    rows = list(_stage_rows(view))
    if not rows:
        return [Paragraph("Not measured: no training stage finished.")]
    head = ["arm", "stage", "train s", "peak memory", "steps", "policy tokens", "reference tokens"]
    return cut(Table(head, rows, align="llrrrrr"), view.export)


def _stage_rows(view: View) -> Iterator[tuple[str, ...]]:
    for name, trials in view.arms.items():
        for place in range(len(trials[0].billed())):
            records = [done for trial in trials if (done := view.results.done(trial.billed()[place]))]
            costs = [record.cost for record in records if record.cost]
            outcomes = [record.outcome for record in records]
            trained = [outcome for outcome in outcomes if isinstance(outcome, TrainOutcome)]
            if not costs:
                continue
            yield (
                name,
                f"{place + 1}. {records[0].stage.kind}" if trained else records[0].stage.kind,
                number(sum(cost.train_seconds for cost in costs) / len(costs)),
                bytes_text(max(cost.peak_memory_bytes for cost in costs)),
                _mean_count(outcome.num_steps for outcome in trained),
                _mean_count(outcome.num_policy_tokens for outcome in trained),
                _mean_count(getattr(outcome, "num_reference_tokens", 0) for outcome in outcomes),
            )


def _mean_count(values: Iterable[int]) -> str:
    found = list(values)
    return count(sum(found) / len(found)) if found else "-"


def _spent(view: View) -> Table:
    spent = view.summary.spent
    rows = [(kind.kind, str(kind.num_stages), number(kind.total_seconds)) for kind in spent]
    total = sum(kind.total_seconds for kind in spent)
    rows.append(("all", str(sum(kind.num_stages for kind in spent)), number(total)))
    return Table(["kind of stage", "stages", "total s"], rows)


def _not_measured(view: View) -> Iterator[Text]:
    """What a reader could expect on the page and what was not measured, with the reason."""
    missing = {
        cost.peak_device_memory_bytes.reason
        for name, model in view.summary.models().items()
        if name != "base" and isinstance((cost := model.cost).peak_device_memory_bytes, Missing)
    }
    if missing:
        yield f"device memory: {view.shown('; '.join(sorted(missing)))}"
    yield "energy: this version has no meter for it"
    if view.results.plan.comparison.price_per_hour is None:
        yield "money: the config gives no ", Code("price_per_hour")
    for name in ("preference", "generation", "benchmarks"):
        if getattr(view.results.plan.comparison.evaluations, name) is None:
            yield f"{name}: the config has no ", Code(f"evaluations.{name}")
