"""The sweep: what each setting was worth on validation items, and how much tuning matters to each arm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

from harness.metrics import metric
from harness.numbers import GIB, bytes_text, interval, number, with_interval
from harness.report.curves import draw_fronts
from harness.report.figures import BETTER, Point, first_of, short_names, span
from harness.report.page import Block, Bullets, Figure, Paragraph, Section, Table, Text, cut
from harness.report.palette import Look, look
from harness.report.sweep_curves import MOST_LINES, SweepLine, SweepPanel, draw_sweep
from harness.report.view import View
from harness.summary_schema import PointScore, PointSummary, SweepSummary
from harness.sweep_summary import SFT_SIGNAL

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
            *_figure(view, sweep, "sweep"),
            *_signal(view, sweep),
            *_fronts(view, sweep),
            *_table(view, sweep),
        ],
    )


def _signal(view: View, sweep: SweepSummary) -> list[Block]:
    """The same curves on SFT's own loss, which a too strong preference term is said to crush."""
    arms = {
        arm: found.model_copy(update={"points": _on_signal(found.points)})
        for arm, found in sweep.arms.items()
    }
    if not any(found.points for found in arms.values()):
        return []
    about = metric(SFT_SIGNAL)
    return [
        Paragraph(
            f"The SFT signal: {SFT_SIGNAL} of the same points on the same items. A point that is better above and worse here "
            "learnt to prefer at the price of what SFT teaches. No point was chosen by it."
        ),
        *_figure(
            view,
            sweep.model_copy(
                update={"metric": SFT_SIGNAL, "direction": about.direction, "unit": about.unit, "arms": arms}
            ),
            "sweep-sft-signal",
        ),
    ]


def _on_signal(points: Sequence[PointSummary]) -> list[PointSummary]:
    return [point.model_copy(update=dict(point.sft_signal)) for point in points if point.sft_signal]


def _figure(view: View, sweep: SweepSummary, name: str) -> list[Block]:
    labels = short_names(sweep.arms)
    panels = [
        SweepPanel(labels[arm], names[key], _look(view, arm), lines)
        for arm, found in sweep.arms.items()
        if (names := _names(found.points))
        for key in _numeric_keys(found.points)
        if (lines := sweep_lines(key, found.points, names))
    ]
    if not panels:
        return []
    label = f"{sweep.metric} ({sweep.unit});\n{BETTER[sweep.direction]}"
    draw = partial(draw_sweep, panels[:MOST_PANELS], y_label=label)
    caption = (
        f"Means over seeds and validation items ({_sizes(sweep)}) with their 95 % interval, cut where it leaves the panel; small marks are seeds, the ring is the chosen point. A line joins "
        "points that differ in the panel's key alone; a point that has no such partner is in the table only. Where no two points "
        "have one, the panel shows all of them as marks."
        f"{first_of(MOST_LINES, max(len(panel.lines) for panel in panels), 'lines of a panel')}"
        f"{first_of(MOST_PANELS, len(panels), 'panels')}"
    )
    alt = f"{sweep.metric} against {', '.join(panel.title for panel in panels)}; the table below has the numbers"
    return [Figure(name, alt, caption, draw)]


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
    draw = partial(
        draw_fronts, panels, y_label=f"{sweep.metric}; {BETTER[sweep.direction]}", direction=sweep.direction
    )
    caption = (
        f"Every point of the sweep against what it cost: means over seeds ({_sizes(sweep)}), all stages of an arm; of memory the highest "
        "peak. The dotted "
        "line joins the points that are better than every cheaper one, by their means: the noise of many points is in it."
    )
    alt = f"{sweep.metric} of {len(panels[0][1])} points against training time and peak memory; the table below has the numbers"
    return [Figure("sweep-cost", alt, caption, draw)]


def _sizes(sweep: SweepSummary) -> str:
    finished = (len(point.by_seed) for arm in sweep.arms.values() for point in arm.points if point.by_seed)
    return f"n = {span(finished)} seeds, {sweep.num_items} items"


def _look(view: View, arm: str) -> Look:
    """As elsewhere; the first model's where none of the arm's seeds is there yet."""
    return view.looks.get(arm) or next(iter(view.looks.values()), look(0))


def _numeric_keys(points: Sequence[PointSummary]) -> list[str]:
    """Keys whose values are different numbers; a point may leave one at the trainer's default, which no file names."""
    keys = dict.fromkeys(key for point in points for key in point.changes)
    found = {key: {_value(point, key) for point in points} - {None} for key in keys}
    return [
        key
        for key, values in found.items()
        if len(values) > 1 and all(isinstance(value, int | float) for value in values)
    ]


def _names(points: Sequence[PointSummary]) -> dict[str, str]:
    """Each swept key's last part, the whole key where two stages have one of that name."""
    keys = list(dict.fromkeys(key for point in points for key in point.changes))
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def sweep_lines(key: str, points: Sequence[PointSummary], names: Mapping[str, str]) -> list[SweepLine]:
    """The points that differ in `key` alone, together; all of them in one where no two do, as with random ones."""
    groups: dict[str, list[PointSummary]] = {}
    scored = [point for point in points if point.mean is not None and _value(point, key) is not None]
    for point in scored:
        others = [
            f"{names[other]} {json.dumps(value)}" for other, value in point.changes.items() if other != key
        ]
        groups.setdefault(", ".join(others), []).append(point)
    lines = [_line(key, label, group) for label, group in groups.items() if len(group) > 1]
    return lines or [_line(key, "", scored, joined=False)] * bool(scored)


def _line(key: str, label: str, points: Sequence[PointSummary], *, joined: bool = True) -> SweepLine:
    found = sorted(points, key=lambda point: float(point.changes[key]))
    return SweepLine(
        label=label,
        x=[float(point.changes[key]) for point in found],
        y=[float(point.mean) for point in found if point.mean is not None],
        bounds=[
            None if point.low is None or point.high is None else (point.low, point.high) for point in found
        ],
        seeds=[point.by_seed for point in found],
        chosen=[point.chosen for point in found],
        joined=joined,
    )


def _value(point: PointSummary, key: str) -> object:
    value = point.changes.get(key)
    return None if isinstance(value, bool) else value


def _table(view: View, sweep: SweepSummary) -> list[Block]:
    rows: list[tuple[Text, ...]] = []
    signals = [point.sft_signal for found in sweep.arms.values() for point in found.points]
    has_signal = any(signals)
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
                    *([_signal_text(point.sft_signal)] if has_signal else []),
                    number(point.train_seconds),
                    bytes_text(point.peak_memory_bytes),
                    "yes" if point.chosen else "",
                )
            )
    signal = [SFT_SIGNAL] if has_signal else []
    head = [
        "arm",
        "setting",
        sweep.metric,
        "95 % interval",
        "by seed",
        *signal,
        "train s",
        "peak memory",
        "chosen",
    ]
    return cut(Table(head, rows, align=f"llrrl{'r' * has_signal}rrl"), view.export)


def _signal_text(score: PointScore | None) -> str:
    return "" if score is None or score.mean is None else with_interval(score.mean, score.low, score.high)
