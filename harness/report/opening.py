"""The top of the page: one picture of quality against cost, the verdict's numbers, the reasons to doubt it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.cost_schema import CostQuantity
from harness.costs import cost_with_bounds
from harness.metrics import metric
from harness.numbers import GIB, interval, p_text, with_interval
from harness.report.figures import BETTER, MOST_MODELS, Point, draw_quality_cost, first_of
from harness.report.page import Block, Bullets, Code, Figure, Paragraph, Section, Table, Text
from harness.report.view import View
from harness.sentences import RULE_WORDS
from harness.summary import DECLARED_COST

COST_LABELS: dict[CostQuantity, str] = {
    "train_seconds": "training time (s)",
    "peak_memory_bytes": "peak memory (GiB)",
    "money": "money",
}


def verdict_section(view: View) -> Section:
    """The verdict's numbers, the rule behind them, and every doubt."""
    verdict = view.summary.verdict
    needed = verdict.seeds_needed
    first = verdict.compare[0]
    rows: list[tuple[str, Text]] = [
        ("outcome", verdict.outcome),
        ("why", verdict.reason or "the rule below"),
        ("primary metric", verdict.metric),
        ("difference", with_interval(verdict.difference, verdict.low, verdict.high, signed=True)),
        (f"{100 * (1 - verdict.alpha):g} % interval", interval(verdict.low, verdict.high, signed=True)),
        ("p-value", p_text(verdict.p_value)),
        ("declared margin", f"{verdict.margin:g}"),
        ("form of the interval", verdict.form or "none"),
        ("seeds in each arm", _seeds(view)),
        ("items", str(verdict.num_items)),
        ("seeds that would decide it", f"{needed[0]} to {needed[1]}" if needed else "not applicable"),
        ("hash of the declared rule", Code(verdict.decision_hash[:12])),
    ]
    if view.summary.rule:
        rows.append(("the rule was", RULE_WORDS[view.summary.rule.status]))
    how = (
        f"The difference is {first} minus {verdict.compare[1]}, turned so that positive means {first} is better. The "
        "interval is for other seeds and other items. ",
        Code("equivalent"),
        f" means: the {100 * (1 - 2 * verdict.alpha):g} % interval lies within the declared margin; else an arm is "
        f"better if the {100 * (1 - verdict.alpha):g} % interval excludes 0.",
    )
    blocks: list[Block] = [Table(["verdict", "value"], rows, align="ll"), Paragraph(how)]
    if view.summary.doubts:
        blocks.append(
            Paragraph("Reasons to doubt it, the strongest first (the order of the rules is fixed):")
        )
        blocks.append(Bullets([view.shown(doubt) for doubt in view.summary.doubts]))
    return Section("The verdict", blocks)


def _seeds(view: View) -> str:
    """One number, or one for each arm where a seed is missing in one of them."""
    verdict, models = view.summary.verdict, view.summary.models()
    found = {
        name: len(models[name].metrics[verdict.metric].seeds)
        for name in verdict.compare
        if name in models and verdict.metric in models[name].metrics
    }
    if len(set(found.values())) < 2:
        return str(verdict.num_seeds)
    return ", ".join(f"{name} {count}" for name, count in found.items())


def quality_cost_section(view: View) -> Section:
    """One picture: the primary metric against the declared cost."""
    decision = view.results.plan.comparison.decision
    quantity = DECLARED_COST[decision.cost]
    points = list(_points(view, quantity))
    if len(points) < 2:
        return Section(
            "Quality against cost", [Paragraph("Not measured: fewer than two models have both on record.")]
        )
    about = metric(decision.metric)
    label = COST_LABELS[quantity]
    if quantity == "money":
        label = f"money ({view.results.plan.comparison.currency})"
    tried = list(_tried(view, quantity))
    draw = partial(
        draw_quality_cost,
        points[:MOST_MODELS],
        tried,
        x_label=f"{label}; less is better",
        y_label=f"{decision.metric} ({about.unit});\n{BETTER[about.direction]}",
        direction=about.direction,
    )
    seeds = max(len(trials) for trials in view.models.values())
    cut = first_of(MOST_MODELS, len(points), "models")
    caption = (
        f"{decision.metric} against {label}, one mark a model: means over up to {seeds} seeds, "
        f"{view.summary.verdict.num_items} items. Bars are 95 % intervals, missing where a single seed gives none; the dotted line "
        "joins the models that are better than every cheaper one (by their means: noise is in it). The cost "
        f"of a model is that of its own training, all stages, not shared with other models.{cut}{_about_tried(view) if tried else ''}"
    )
    alt = "; ".join(
        f"{point.name}: {decision.metric} {point.quality:.3g} at {point.cost:.3g}"
        for point in points[:MOST_MODELS]
    )
    return Section(
        "Quality against cost",
        [Figure("quality-cost", f"{decision.metric} against {label}. {alt}", caption, draw)],
    )


def _scale(quantity: CostQuantity) -> float:
    """From the quantity's own unit to that of `COST_LABELS`."""
    return 1 / GIB if quantity == "peak_memory_bytes" else 1.0


def _tried(view: View, quantity: CostQuantity) -> Iterator[Point]:
    """The sweep's points, where they have the same two quantities."""
    sweep = view.summary.sweep
    if sweep is None or sweep.metric != view.results.plan.comparison.decision.metric:
        return
    scale = _scale(quantity)
    for arm, found in sweep.arms.items():
        for point in found.points:
            cost = getattr(point, quantity, None)
            if arm in view.looks and cost is not None and point.mean is not None:
                yield Point(arm, view.looks[arm], scale * cost, None, point.mean, None)


def _about_tried(view: View) -> str:
    sweep = view.summary.sweep
    assert sweep is not None
    return (
        f" Small marks: every point of the sweep, on {sweep.num_items} validation items and on seeds of its own, so a point's height is "
        "not to be compared with a model's; no interval here and not on the dotted line (section Sweep has both)."
    )


def _points(view: View, quantity: CostQuantity) -> Iterator[Point]:
    name = view.results.plan.comparison.decision.metric
    scale = _scale(quantity)
    for model, about in view.summary.models().items():
        found = about.metrics.get(name)
        cost, low, high = cost_with_bounds(about.cost, quantity)
        if found is None or found.mean is None or cost is None:
            continue
        yield Point(
            name=model,
            look=view.looks[model],
            cost=scale * cost,
            cost_bounds=None if low is None or high is None else (scale * low, scale * high),
            quality=found.mean,
            quality_bounds=None if found.low is None or found.high is None else (found.low, found.high),
        )
