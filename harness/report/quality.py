"""Quality: every metric of every model. And what was lost: the same models on what training may have damaged."""

from __future__ import annotations

from functools import partial

from harness.metrics import BENCHMARK_PREFIX, TRAIN_PREFIX, metric
from harness.numbers import interval, number, with_interval
from harness.report.components import gold_part_blocks, layer_blocks
from harness.report.diagnostics import diagnostics_blocks
from harness.report.exactness import exactness_blocks
from harness.report.figures import MOST_MODELS, MOST_SEED_MARKS, draw_quality, first_of, span
from harness.report.page import Block, Bullets, Code, Figure, Paragraph, Section, Table, Text, cut
from harness.report.stations import likelihood_blocks, station_blocks
from harness.report.view import View
from harness.report.win_rates import win_rate_blocks
from harness.summary_schema import MetricSummary

MOST_METRICS, MOST_SEEDS = 18, 12
NOTHING_SHARED = "no item that every seed was measured on"
SAMPLED = "gold_score_sampled"
BETTER = {"higher": "higher", "lower": "lower", "none": "neither"}
LOSSES = (  # beside benchmarks: what training may damage
    "chosen_nll", "reply_length_tokens", "stopped_share", "repetition", "longest_loop_tokens", "empty_share",
    "refusal_share", "script_drift", "form_drift",
)  # fmt: skip


def quality_section(view: View) -> Section:
    """A figure, the table behind it and what each metric is."""
    # On training pairs only the gap to the others says something: it stands below.
    names = [name for name in view.summary.metric_names() if not name.startswith(TRAIN_PREFIX)]
    if not names:
        return Section("Quality", [Paragraph("Not measured: no evaluation finished.")])
    explained = [(Code(name), ": ", *formula_text(name), *_sampled_at(view, name)) for name in names]
    note = (
        "Intervals here are for single means: whether two models differ is said under Differences, not by looking whether two "
        "of these overlap. They are not clipped to a metric's range."
    )
    blocks = [*_figure(view, names), Paragraph(note), *_table(view, names), Bullets(explained)]
    more = [
        *gold_part_blocks(view),
        *win_rate_blocks(view),
        *diagnostics_blocks(view),
        *exactness_blocks(view),
    ]
    return Section("Quality", [*blocks, *more])


def lost_section(view: View) -> Section:
    """Models side by side, before and after, on capability, likelihood and length."""
    names = [
        name for name in view.summary.metric_names() if name in LOSSES or name.startswith(BENCHMARK_PREFIX)
    ]
    if not names:
        text = "Not measured: no evaluation of capability, likelihood or length finished."
        return Section("What was lost", [Paragraph(text)])
    models = dict(list(view.summary.models().items())[:MOST_MODELS])
    rows: list[list[Text]] = []
    for name in names:
        about = metric(name)
        cells = [_with_interval(model.metrics.get(name)) for model in models.values()]
        rows.append([Code(name), f"{BETTER[about.direction]} ({about.unit})", *cells])
    intro = (
        "Before training (base) and after, each mean with its 95 % interval. A benchmark that falls, a chosen_nll that rises "
        "or replies that grow show what preference training took away. Nothing is tested in this table: overlapping intervals "
        "do not prove that nothing was lost."
        f"{first_of(MOST_MODELS, len(view.models), 'models')}"
    )
    table = Table(["metric", "better (unit)", *models], rows, align="ll" + "r" * len(models))
    lacking = [] if any(name.startswith(BENCHMARK_PREFIX) for name in names) else [NO_CAPABILITY]
    stations = [*station_blocks(view, names), *likelihood_blocks(view), *layer_blocks(view)]
    return Section("What was lost", [Paragraph(intro), table, *lacking, *stations])


NO_CAPABILITY = Paragraph(
    ("Capability: not measured, the config has no ", Code("evaluations.benchmarks"), ".")
)


def _figure(view: View, names: list[str]) -> list[Block]:
    """Nothing where no model has an item that all its seeds share."""
    models = dict(list(view.summary.models().items())[:MOST_MODELS])
    drawn = [
        (
            name,
            {
                model: measured
                for model, about in models.items()
                if (measured := about.metrics.get(name)) and measured.num_items
            },
        )
        for name in names
    ]
    drawn = [(name, found) for name, found in drawn if found][:MOST_METRICS]
    if not drawn:
        return []
    looks = {model: view.looks[model] for model in models}
    draw = partial(draw_quality, drawn, looks, view.summary.verdict.metric)
    found = [about for _, by_model in drawn for about in by_model.values()]
    seeds, items = max(len(about.by_seed) for about in found), {about.num_items for about in found}
    cuts = [
        f"the first {most} of {count} {noun}"
        for most, count, noun in (
            (MOST_MODELS, len(view.models), "models"),
            (MOST_METRICS, len(names), "metrics"),
            (MOST_SEED_MARKS, seeds, "seeds of each model"),
        )
        if count > most
    ]
    caption = (
        "Large marks are means with their 95 % interval, the small marks beneath are seeds "
        f"(n = up to {seeds} seeds, {span(items)} items); the primary metric is bold."
        + (f" Drawn: {', '.join(cuts)}." if cuts else "")
    )
    alt = f"Means of {', '.join(name for name, _ in drawn)} for {', '.join(models)}, with intervals; the table below has the numbers"
    return [Figure("quality", alt, caption, draw)]


def _table(view: View, names: list[str]) -> list[Block]:
    rows: list[tuple[Text, ...]] = []
    for name in names:
        first = True
        for model, about in view.summary.models().items():
            if name not in about.metrics:
                continue
            found = about.metrics[name]
            rows.append(
                (
                    Code(name) if first else "",
                    f"{BETTER[found.direction]} ({found.unit})" if first else "",
                    model,
                    with_interval(found.mean, found.low, found.high) if found.num_items else NOTHING_SHARED,
                    interval(found.low, found.high),
                    _by_seed(found) if found.num_items else "",
                    str(found.num_items),
                )
            )
            first = False
    head = ["metric", "better (unit)", "model", "mean", "95 % interval", "by seed", "items"]
    return cut(Table(head, rows, align="lllrrlr"), view.export)


def formula_text(name: str) -> list[Code | str]:
    """What a metric is, the metrics that it names as code."""
    pieces = metric(name).formula.split("`")
    return [Code(piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def _sampled_at(view: View, name: str) -> list[str]:
    generation = view.results.plan.comparison.evaluations.generation
    if name != SAMPLED or generation is None:
        return []
    return [f": here {number(generation.temperature)}"]


def _by_seed(found: MetricSummary) -> str:
    values = " ".join(number(value) for value in found.by_seed[:MOST_SEEDS]) or "one model for all seeds"
    more = len(found.by_seed) - MOST_SEEDS
    return f"{values} … and {more:,} more" if more > 0 else values


def _with_interval(found: MetricSummary | None) -> str:
    if found is None:
        return "not measured"
    if not found.num_items:
        return NOTHING_SHARED
    bounds = f" ({interval(found.low, found.high)})" if found.low is not None else ""
    return f"{with_interval(found.mean, found.low, found.high)}{bounds}"
