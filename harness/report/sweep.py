"""The sweep: what each setting was worth on validation items, and how much tuning matters to each arm."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.numbers import GIB, bytes_text, interval, number, with_interval
from harness.report.curves import draw_fronts
from harness.report.figures import BETTER, Point, SweepCurve, draw_sweep, first_of, shortened, span
from harness.report.page import Block, Bullets, Figure, Paragraph, Section, Table, Text, cut
from harness.report.palette import Look, look
from harness.report.view import View
from harness.summary_schema import PointSummary, SweepSummary

TITLE = "Sweep"
MOST_PANELS = 9


def sweep_section(view: View) -> Section | None:
    """A curve for each swept number, every point in a table; None where nothing was swept."""
    sweep = view.summary.sweep
    if sweep is None:
        return None
    seeds = max((len(point.by_seed) for arm in sweep.arms.values() for point in arm.points), default=0)
    intro = (
        f"Points were compared by {sweep.metric} on {sweep.num_items} validation items and {seeds} seeds each. The best of "
        "each arm was then run on fresh seeds, and only those are in the verdict and in the other sections. The best of many "
        "points looks better here than it is: that is why. Seed 0 of a point and seed 0 of the report are not one seed: their random "
        "sources start from other numbers, `seed` in each stage's record."
    )
    spreads = [
        f"{arm}: {found.num_within_margin} of {len(found.points)} points lie within the margin ({sweep.margin:g}) of its best; "
        f"{sum(point.num_failed_seeds > 0 for point in found.points)} lost a seed"
        for arm, found in sweep.arms.items()
        if found.num_within_margin is not None
    ]
    return Section(
        TITLE,
        [
            Paragraph(intro),
            Bullets(spreads),
            *_figure(view, sweep),
            *_fronts(view, sweep),
            *_table(view, sweep),
        ],
    )


def _figure(view: View, sweep: SweepSummary) -> list[Block]:
    curves = [
        curve
        for arm, found in sweep.arms.items()
        for key in _numeric_keys(found.points)
        if (curve := _curve(view, arm, key, found.points)) is not None
    ]
    if not curves:
        return []
    label = f"{sweep.metric} ({sweep.unit});\n{BETTER[sweep.direction]}"
    svg, png = draw_sweep(curves[:MOST_PANELS], y_label=label)
    caption = (
        f"Means over seeds and validation items ({_sizes(sweep)}) with their 95 % interval; the ring is the chosen point. Where several keys "
        "were swept at once, a panel shows all points against one key."
        f"{first_of(MOST_PANELS, len(curves), 'panels')}"
    )
    alt = f"{sweep.metric} against {', '.join(curve.title for curve in curves)}; the table below has the numbers"
    return [Figure("sweep", alt, caption, svg, png)]


def _fronts(view: View, sweep: SweepSummary) -> list[Block]:
    """Quality against training time and against peak memory, one mark a point."""
    points = [(arm, point) for arm, found in sweep.arms.items() for point in found.points]
    times = [(arm, point, point.train_seconds) for arm, point in points]
    peaks = [(arm, point, point.peak_memory_bytes and point.peak_memory_bytes / GIB) for arm, point in points]
    panels = [
        (
            f"{label}; less is better",
            [
                Point(arm, _look(view, arm), cost, None, point.mean, None)
                for arm, point, cost in costs
                if cost is not None and point.mean is not None
            ],
        )
        for label, costs in (("training time (s)", times), ("peak memory (GiB)", peaks))
    ]
    panels = [panel for panel in panels if len(panel[1]) > 1]
    if not panels:
        return []
    svg, png = draw_fronts(
        panels, y_label=f"{sweep.metric}; {BETTER[sweep.direction]}", direction=sweep.direction
    )
    caption = (
        f"Every point of the sweep against what it cost: means over seeds ({_sizes(sweep)}), all stages of an arm; of memory the highest "
        "peak. The dotted "
        "line joins the points that are better than every cheaper one, by their means: the noise of many points is in it."
    )
    alt = f"{sweep.metric} of {len(panels[0][1])} points against training time and peak memory; the table below has the numbers"
    return [Figure("sweep-cost", alt, caption, svg, png)]


def _sizes(sweep: SweepSummary) -> str:
    finished = (len(point.by_seed) for arm in sweep.arms.values() for point in arm.points if point.by_seed)
    return f"n = {span(finished)} seeds, {sweep.num_items} items"


def _look(view: View, arm: str) -> Look:
    """As elsewhere; the first model's where none of the arm's seeds is there yet."""
    return view.looks.get(arm) or next(iter(view.looks.values()), look(0))


def _numeric_keys(points: Sequence[PointSummary]) -> list[str]:
    """Keys whose values are different numbers."""
    keys = dict.fromkeys(key for point in points for key in point.changes)
    return [
        key
        for key in keys
        if len({_value(point, key) for point in points}) > 1
        and all(isinstance(_value(point, key), int | float) for point in points)
    ]


def _curve(view: View, arm: str, key: str, points: Sequence[PointSummary]) -> SweepCurve | None:
    found = sorted(
        (point for point in points if point.mean is not None), key=lambda point: float(point.changes[key])
    )
    if not found:
        return None
    return SweepCurve(
        title=f"{shortened(arm)}: {key.rpartition('.')[2]}",
        look=_look(view, arm),
        x=[float(point.changes[key]) for point in found],
        y=[float(point.mean) for point in found if point.mean is not None],
        bounds=[
            None if point.low is None or point.high is None else (point.low, point.high) for point in found
        ],
        chosen=[point.chosen for point in found],
    )


def _value(point: PointSummary, key: str) -> object:
    value = point.changes.get(key)
    return None if isinstance(value, bool) else value


def _table(view: View, sweep: SweepSummary) -> list[Block]:
    rows: list[tuple[Text, ...]] = []
    for arm, found in sweep.arms.items():
        for number_of, point in enumerate(found.points):
            changes = ", ".join(f"{key} = {json.dumps(value)}" for key, value in point.changes.items())
            rows.append(
                (
                    arm if number_of == 0 else "",
                    view.shown(changes),
                    "failed" if point.mean is None else with_interval(point.mean, point.low, point.high),
                    interval(point.low, point.high),
                    " ".join(map(number, point.by_seed)),
                    number(point.train_seconds),
                    bytes_text(point.peak_memory_bytes),
                    "yes" if point.chosen else "",
                )
            )
    head = ["arm", "setting", sweep.metric, "95 % interval", "by seed", "train s", "peak memory", "chosen"]
    return cut(Table(head, rows, align="llrrlrrl"), view.export)
