"""Sweeps: arms that differ in one number of one stage, such as ORPO's beta, drawn against that number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from harness.metrics import metric
from harness.numbers import interval, with_interval
from harness.report.figures import BETTER, SweepPanel, SweepPoint, draw_sweeps
from harness.report.page import Figure, Paragraph, Section, Table, Text, cut
from harness.report.view import View
from harness.summary_schema import MetricSummary

MIN_POINTS, MOST_SWEEPS = 3, 6
TITLE = "Sweep"


@dataclass(frozen=True)
class Sweep:
    """Arms that differ in one number alone.

    Attributes:
        setting: Such as `orpo beta`.
        arms: By value, ascending.
    """

    setting: str
    arms: dict[float, str]


def sweep_section(view: View) -> Section | None:
    """Curves and a table; None where no three arms differ in one number alone."""
    found = sweeps(view)
    if not found:
        return None
    rows = [_row(view, sweep.setting, value, arm) for sweep in found for value, arm in sweep.arms.items()]
    head = ["setting", "value", "arm", view.summary.verdict.metric, "95 % interval", "seeds"]
    warning = (
        "The best of several points looks better than it is, as it was chosen by the same seeds and items: judge a chosen point "
        "on fresh seeds."
    )
    table = cut(Table(head, rows, align="lrlrrr"), view.export)
    return Section(TITLE, [*_figure(view, found), *table, Paragraph(warning)])


def _figure(view: View, found: list[Sweep]) -> Iterator[Figure]:
    name = view.summary.verdict.metric
    about = metric(name)
    panels = [
        SweepPanel(sweep.setting, f"{name} ({about.unit})", points)
        for sweep in found
        if (points := list(_points(view, sweep)))
    ]
    if not panels:
        return
    shown = panels[:MOST_SWEEPS]
    svg, png = draw_sweeps(shown)
    more = f" The first {MOST_SWEEPS} of {len(panels)} sweeps." if len(panels) > MOST_SWEEPS else ""
    caption = (
        f"{name} against the one number in which arms differ; {BETTER[about.direction]}. Means with 95 % intervals, the seeds of "
        f"each are in the table.{more}"
    )
    told = (
        f"{panel.setting}: " + ", ".join(f"{point.mean:.3g} at {point.value:g}" for point in panel.points)
        for panel in shown
    )
    yield Figure("sweep", f"{name} by setting. {'; '.join(told)}", caption, svg, png)


def _points(view: View, sweep: Sweep) -> Iterator[SweepPoint]:
    for value, arm in sweep.arms.items():
        if (found := _measured(view, arm)) is not None:
            yield SweepPoint(value, found.mean, found.low, found.high)


def _row(view: View, setting: str, value: float, arm: str) -> tuple[Text, ...]:
    found = _measured(view, arm)
    if found is None:
        return setting, f"{value:g}", arm, "not measured", "", "0"
    mean = with_interval(found.mean, found.low, found.high)
    return setting, f"{value:g}", arm, mean, interval(found.low, found.high), str(len(found.by_seed))


def _measured(view: View, arm: str) -> MetricSummary | None:
    model = view.summary.arms.get(arm)
    return None if model is None else model.metrics.get(view.summary.verdict.metric)


def sweeps(view: View) -> list[Sweep]:
    """Every number of a stage in which at least three arms differ while they agree in everything else."""
    found: dict[tuple[str, str], dict[float, str]] = {}
    for arm, stages in view.results.plan.comparison.arms.items():
        content = [stage.model_dump(mode="json") for stage in stages]
        for place, stage in enumerate(stages):
            for name, value in stage.arguments.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                content[place]["arguments"][name] = None
                rest = json.dumps(content, sort_keys=True)
                content[place]["arguments"][name] = value
                setting = (
                    f"{stage.trainer} {name}" if len(stages) == 1 else f"{place + 1}. {stage.trainer} {name}"
                )
                found.setdefault((setting, rest), {}).setdefault(float(value), arm)
    return [
        Sweep(setting, dict(sorted(arms.items())))
        for (setting, _), arms in found.items()
        if len(arms) >= MIN_POINTS
    ]
