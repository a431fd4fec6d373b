"""The bill: what training each model cost, by stage, alone and with sharing, and the ratio of the two arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.contention import other_load
from harness.cost_schema import CostQuantity, CostSummary, KindCost
from harness.costs import cost_with_bounds, training_costs
from harness.numbers import (
    NOT_MEASURED,
    bytes_text,
    count,
    interval,
    number,
    ratio_with_interval,
    with_interval,
)
from harness.records import Missing
from harness.report.budget import budget_blocks
from harness.report.forecast import forecast_blocks
from harness.report.page import Block, Bullets, Code, Paragraph, Section, Table, Text, cut
from harness.report.stage_meters import billed_stages, memory_table, time_table
from harness.report.view import View
from harness.sentences import cost_words
from pipelines.outcomes import TrainOutcome

PEAK_KINDS = {
    "resident": "Peak memory is the process's resident memory on the CPU, libraries included: it says nothing of a GPU.",
    "cuda_reserved": "Peak memory is the most that torch's allocator had reserved on the device.",
}


# What is not measured of a model is named by these words.
NAMED = {
    "device memory": "peak_device_memory_bytes",
    "energy": "energy_joules",
    "operations": "operations",
    "share of the device's peak": "peak_share",
    "warm-up and waiting": "waiting_seconds",
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
                ": from process start to record, less looks at validation pairs; ",
                Code("shared s"),
                ": the same, where a stage that serves several models (one SFT model for SFT alone and for DPO) is split "
                "evenly between them, as are energy and money in their shared columns. Evaluation is not included.",
            )
        )
    )
    costs = training_costs(view.results)
    if contended := [cost for cost in costs if cost.contended is True]:
        blocks.append(
            Paragraph(
                f"Unreliable: the machine was shared while {len(contended)} of {len(costs)} training stages ran "
                f"({other_load(contended)}); the table under Fairness names them."
            )
        )
    kinds = {model.cost.peak_memory_kind for model in view.summary.models().values()}
    blocks += [Paragraph(text) for kind, text in PEAK_KINDS.items() if kind in kinds]
    blocks += _ratios(view)
    blocks += budget_blocks(view)
    blocks += [
        Paragraph("By stage, means over the finished seeds; the peak is the largest of any seed:"),
        *_stages(view),
    ]
    blocks += [*time_table(view), *memory_table(view)]
    blocks.append(
        Paragraph(
            "The whole run, each distinct stage once, from process start to record. Looks at validation pairs during training are in it, and "
            "in no other table of this section:"
        )
    )
    blocks.append(_spent(view))
    blocks += forecast_blocks(view)
    blocks += [Paragraph("Not measured:"), Bullets(list(_not_measured(view)))]
    return Section("What it costs", blocks)


def _models(view: View) -> Table:
    priced = view.results.plan.comparison.price_per_hour is not None
    currency = view.results.plan.comparison.currency
    models = view.summary.models()
    metered = any(isinstance(model.cost.energy_joules, float) for model in models.values())
    rows = []
    for name, model in models.items():
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
                *(
                    [_kilojoules(cost.energy_joules), _kilojoules(cost.shared_energy_joules)]
                    if metered
                    else []
                ),
                bytes_text(cost.peak_memory_bytes),
                count(cost.num_pairs_seen),
                count(cost.num_policy_tokens),
                count(cost.num_reference_tokens),
                *([number(cost.money), number(cost.shared_money)] if priced else []),
                str(len(cost.by_seed)),
            )
        )
    head = [
        "model", "train s", "95 % interval", "total s", "shared s", *(["energy kJ", "shared kJ"] if metered else []),
        "peak memory", "pairs", "policy tokens", "reference tokens",
        *([f"money ({currency})", "shared money"] if priced else []), "seeds",
    ]  # fmt: skip
    return Table(head, rows)


def _kilojoules(joules: float | Missing | None) -> str:
    return number(joules / 1000) if isinstance(joules, float) else NOT_MEASURED


def _ratios(view: View) -> list[Block]:
    first, second = view.summary.verdict.compare
    models = view.summary.models()
    if not view.summary.cost_ratios or first not in models or second not in models:
        return [Paragraph(f"Ratio of {first} to {second}: not measured, no seed finished in both.")]
    rows = [
        (
            cost_words(ratio).removeprefix("the "),
            *(_amount(models[name].cost, ratio.quantity) for name in (first, second)),
            *ratio_with_interval(ratio.ratio, ratio.low, ratio.high),
            str(ratio.num_seeds),
        )
        for ratio in view.summary.cost_ratios
    ]
    level = f"{100 * (1 - view.summary.verdict.alpha):g} % interval"
    table = Table(["cost", first, second, f"{first} / {second}", level, "seeds"], rows)
    return [
        Paragraph(
            "The two arms, amounts as above; the ratio is paired by seed, a geometric mean, below 1 the first is cheaper:"
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
    if quantity == "energy_joules":
        return f"{_kilojoules(value)} kJ"
    return f"{number(value)} {cost.currency if quantity == 'money' else 's'}"


def _stages(view: View) -> list[Block]:
    rows = list(_stage_rows(view))
    if not rows:
        return [Paragraph("Not measured: no training stage finished.")]
    head = ["arm", "stage", "train s", "peak memory", "steps", "policy tokens", "reference tokens"]
    return cut(Table(head, rows, align="llrrrrr"), view.export)


def _stage_rows(view: View) -> Iterator[tuple[str, ...]]:
    for name, stage, records in billed_stages(view):
        costs = [record.cost for record in records if record.cost is not None]
        outcomes = [record.outcome for record in records]
        trained = [outcome for outcome in outcomes if isinstance(outcome, TrainOutcome)]
        yield (
            name,
            stage,
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
    whole = KindCost(
        kind="all",
        num_stages=sum(one.num_stages for one in spent),
        total_seconds=sum(one.total_seconds for one in spent),
        look_seconds=sum(one.look_seconds for one in spent),
    )
    rows = [
        (one.kind, str(one.num_stages), number(one.total_seconds), number(one.look_seconds))
        for one in [*spent, whole]
    ]
    return Table(["kind of stage", "stages", "process s", "of it looks s"], rows)


def _not_measured(view: View) -> Iterator[Text]:
    """What a reader could expect on the page and what was not measured, with the reason."""
    costs = [model.cost for name, model in view.summary.models().items() if name != "base"]
    for words, name in NAMED.items():
        found = [getattr(cost, name) for cost in costs]
        reasons = {value.reason for value in found if isinstance(value, Missing)}
        if None in found:
            reasons.add("these results are of a version that did not measure it, or nothing was trained")
        if reasons:
            yield f"{words}: {view.shown('; '.join(sorted(reasons)))}"
    if view.results.plan.comparison.price_per_hour is None:
        yield "money: the config gives no ", Code("price_per_hour")
    for name in ("preference", "generation", "benchmarks"):
        if getattr(view.results.plan.comparison.evaluations, name) is None:
            yield f"{name}: the config has no ", Code(f"evaluations.{name}")
