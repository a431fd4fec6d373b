"""The report's drawings, the same bytes for the same results. matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.metrics import Direction
from harness.report.page import Drawn
from harness.report.palette import INK, PAPER, Look, drawing
from harness.summary_schema import MetricSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import LayoutEngine

BETTER: dict[Direction, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "none": "neither is better",
}
MOST_MODELS, MOST_SEED_MARKS = 16, 30
MOST_IN_TITLE = 40  # characters
COLUMNS, PANEL_WIDTH, ROW_HEIGHT = 3, 3.0, 0.22  # inches
PNG_DPI = 150
THOUSANDS = 10_000  # an axis that reaches this far is labelled in thousands

ABOVE, BENEATH = 3, 1  # order of drawing: over every mark, under every mark

Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class Point:
    """A model in the plane of cost and quality, with its intervals where there are some."""

    name: str
    look: Look
    cost: float
    cost_bounds: Bounds
    quality: float
    quality_bounds: Bounds


@dataclass(frozen=True)
class Curve:
    """A line of one seed."""

    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Curves that share axes: the seeds of one stage of one arm."""

    title: str
    look: Look
    x_label: str
    y_label: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Difference:
    """A row of a forest plot; drawn in the metric's unit."""

    name: str
    value: float
    low: float | None
    high: float | None


def draw_quality_cost(
    points: Sequence[Point], tried: Sequence[Point], *, x_label: str, y_label: str, direction: Direction
) -> Drawn:
    """Draw one mark a model; the dotted line joins those than which no cheaper one is as good.

    Args:
        points: In the order of the legend.
        tried: Points of a sweep, drawn small beneath and not joined; those of one arm have one name.
        x_label: With the unit; less is better.
        y_label: With the unit.
        direction: Which quality is better.
    """
    with drawing():
        figure = _figure(7.2, max(3.4, 0.2 * len(points) + 0.8), "constrained")
        axes = figure.add_subplot()
        front = best_for_their_price(points, direction)
        axes.plot(
            [point.cost for point in front],
            [point.quality for point in front],
            ":",
            color=INK,
            linewidth=1,
            zorder=ABOVE,
        )
        labels = short_names(point.name for point in [*points, *tried])
        for point in points:
            colour, marker, _ = point.look
            if point.cost_bounds:
                axes.plot(point.cost_bounds, [point.quality] * 2, color=colour, linewidth=1.3)
            if point.quality_bounds:
                axes.plot([point.cost] * 2, point.quality_bounds, color=colour, linewidth=1.3)
            axes.plot(
                [point.cost],
                [point.quality],
                marker,
                color=colour,
                fillstyle="none",  # an outline hides no mark beneath it
                markersize=8,
                markeredgewidth=1.6,
                label=labels[point.name],
            )
        for name, look in {point.name: point.look for point in tried}.items():
            own = [point for point in tried if point.name == name]
            axes.plot(
                [point.cost for point in own],
                [point.quality for point in own],
                look.marker,
                color=look.colour,
                markersize=3,
                alpha=0.45,
                zorder=BENEATH,
                label=f"{labels[name]}, tried",
            )
        axes.set_xlim(left=min(0.0, *axes.get_xlim()))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, color=INK, alpha=0.12, linewidth=0.6)
        figure.legend(loc="outside right center")
        return saved(figure)


def draw_quality(
    metrics: Sequence[tuple[str, dict[str, MetricSummary]]], looks: dict[str, Look], primary: str
) -> Drawn:
    """Draw a panel for each metric, a row for each model.

    Args:
        metrics: Name of each metric with the models that have it.
        looks: By model, in the order of the rows.
        primary: Its panel's title is bold.
    """
    with drawing():
        height = ROW_HEIGHT * len(looks) + 0.9
        figure, panels = panel_axes(len(metrics), height)
        titles, labels = short_names((name for name, _ in metrics), MOST_IN_TITLE), short_names(looks)
        for place, (axes, (name, found)) in enumerate(zip(panels, metrics, strict=True)):
            for row, (model, look) in enumerate(looks.items()):
                if model in found:
                    _draw_model(axes, row, found[model], look)
            some = next(iter(found.values()))
            axes.set_title(titles[name], fontweight="bold" if name == primary else "normal")
            axes.set_xlabel(f"{some.unit}; {BETTER[some.direction]}", fontsize=8)
            first = place % COLUMNS == 0
            axes.set_yticks(range(len(looks)), [labels[model] if first else "" for model in looks])
            axes.set_ylim(len(looks) - 0.4, -0.6)
            axes.margins(x=0.08)
            axes.locator_params(axis="x", nbins=5)
            axes.grid(visible=True, axis="x", color=INK, alpha=0.12, linewidth=0.6)
        return saved(figure)


def draw_panels(panels: Sequence[Panel], *, columns: int) -> Drawn:
    """Draw thin curves for seeds and a thick one for their mean, `columns` panels in a row."""
    from matplotlib.collections import LineCollection

    with drawing():
        figure, all_axes = panel_axes(len(panels), 2.0, columns=columns, width=4.4)
        for axes, panel in zip(all_axes, panels, strict=True):
            colour, _, dash = panel.look
            seeds = [list(zip(curve.x, curve.y, strict=True)) for curve in panel.curves]
            axes.add_collection(LineCollection(seeds, colors=colour, linewidths=0.7, alpha=0.4))
            mean = mean_curve(panel.curves)
            axes.plot(mean.x, mean.y, color=colour, linestyle=dash, linewidth=1.9)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label, fontsize=8)
            axes.set_ylabel(panel.y_label, fontsize=8)
            axes.locator_params(axis="x", nbins=5)
            in_thousands(axes)
        return saved(figure)


def draw_forest(groups: Sequence[tuple[str, str, Sequence[Difference]]], *, margin: float | None) -> Drawn:
    """Draw differences with their intervals around 0: a panel for each metric, since units differ.

    Args:
        groups: Title, label of the axis with its unit, and the rows.
        margin: Half-width of the shaded band in the first panel.
    """
    with drawing():
        height = ROW_HEIGHT * max(len(rows) for _, _, rows in groups) + 0.9
        figure, panels = panel_axes(len(groups), height, width=PANEL_WIDTH if len(groups) > 1 else 6.4)
        titles = short_names((title for title, _, _ in groups), MOST_IN_TITLE)
        for place, (axes, (title, label, rows)) in enumerate(zip(panels, groups, strict=True)):
            axes.axvline(0, color=INK, linewidth=0.8)
            if place == 0 and margin is not None:
                axes.axvspan(-margin, margin, color=INK, alpha=0.08, linewidth=0)
            for row, difference in enumerate(rows):
                if difference.low is not None and difference.high is not None:
                    axes.plot([difference.low, difference.high], [row, row], color=INK, linewidth=1.4)
                axes.plot([difference.value], [row], "D", color=INK, markersize=5)
            axes.set_title(titles[title], fontweight="normal" if margin is None else "bold")
            axes.set_xlabel(label, fontsize=8)
            named = [(y, row.name) for y, row in enumerate(rows) if row.name]
            axes.set_yticks([y for y, _ in named], [name for _, name in named])
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.locator_params(axis="x", nbins=5)
        return saved(figure)


def best_for_their_price(points: Sequence[Point], direction: Direction) -> list[Point]:
    """The points that no cheaper, or equally cheap, one equals in quality, the cheapest first."""
    sign = {"higher": 1.0, "lower": -1.0, "none": 0.0}[direction]
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -sign * point.quality)):
        if sign and (not front or sign * point.quality > sign * front[-1].quality):
            front.append(point)
    return front


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Point by point over the curves, as far as the shortest."""
    length = min(len(curve.y) for curve in curves)

    def mean(rows: Sequence[Sequence[float]]) -> list[float]:
        return [sum(row[place] for row in rows) / len(rows) for place in range(length)]

    return Curve(mean([curve.x for curve in curves]), mean([curve.y for curve in curves]))


def in_thousands(axes: Axes) -> None:
    """Label a horizontal axis that reaches far in thousands."""
    if axes.get_xlim()[1] >= THOUSANDS:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,g}k")


def _draw_model(axes: Axes, row: int, about: MetricSummary, look: Look) -> None:
    marks = about.by_seed[:MOST_SEED_MARKS]
    axes.plot(
        marks, [row + 0.28] * len(marks), look.marker, color=look.colour, markersize=2.5, alpha=0.55
    )  # beneath the mean, so that neither hides the other
    if about.low is not None and about.high is not None:
        axes.plot([about.low, about.high], [row, row], color=look.colour, linewidth=1.4)
    if about.mean is not None:
        axes.plot([about.mean], [row], look.marker, color=look.colour, markersize=6)


def _figure(width: float, height: float, layout: Literal["constrained"] | LayoutEngine) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def panel_axes(
    count: int, height: float, *, columns: int = COLUMNS, width: float = PANEL_WIDTH
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each `width` by `height` inches, `columns` in a row."""
    from matplotlib.layout_engine import TightLayoutEngine

    columns = min(columns, count)
    rows = -(-count // columns)
    # Half the work of constrained; with its default rectangle, the whole figure, it would measure all texts twice for the same result.
    layout = TightLayoutEngine(rect=None)  # type: ignore[arg-type]  # the stubs do not know that it may be None
    figure = _figure(width * columns + 0.6, height * rows, layout)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def saved(figure: Figure) -> Drawn:
    """The figure in both formats, the same bytes each time."""
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)
    figure.set_layout_engine(None)  # else each format lays it out anew, which takes longer than drawing it
    svg, png = io.BytesIO(), io.BytesIO()
    # Without these the time of drawing and the library's version would be in the files.
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    figure.savefig(png, format="png", metadata={"Software": None}, dpi=PNG_DPI, facecolor=PAPER)
    return Drawn(svg.getvalue(), png.getvalue())


def span(values: Iterable[int]) -> str:
    """`5`, or `60 to 196` where they differ: a caption's n."""
    found = set(values)
    return str(found.pop()) if len(found) == 1 else f"{min(found)} to {max(found)}"


def first_of(most: int, count: int, noun: str) -> str:
    """A sentence for a caption that only the first `most` of `count` are shown; nothing where all are."""
    return f" The first {most} of {count} {noun}." if count > most else ""


def short_names(names: Iterable[str], most: int = 26) -> dict[str, str]:
    """Long names without their middle, since names of one sweep differ at their ends; each still another's no twin.

    Args:
        names: All that stand in one figure.
        most: Characters; names that can be told apart in no other way stay whole.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(_without_middle(name, most), []).append(name)
    found: dict[str, str] = {}
    for short, own in alike.items():
        found |= {own[0]: short} if len(own) == 1 else _around_their_difference(own, most)
    return found if len(set(found.values())) == len(found) else {name: name for name in found}


def _without_middle(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def _around_their_difference(names: Sequence[str], most: int) -> dict[str, str]:
    """Names that begin and end alike, each with the part in which they differ; whole where that part is too long."""
    begin = _length_in_common(names)
    end = _length_in_common([name[begin:][::-1] for name in names])
    room = most - 2 - max(len(name) - begin - end for name in names)
    if room < 2:  # a character at either end
        return {name: name for name in names}
    return {
        name: f"{name[: room - room // 2]}…{name[begin : len(name) - end]}…{name[-(room // 2) :]}"
        for name in names
    }


def _length_in_common(names: Sequence[str]) -> int:
    """Of their beginning, in characters."""
    first, last = min(names), max(names)  # no other two differ earlier
    both = enumerate(zip(first, last, strict=False))
    return next((place for place, (one, other) in both if one != other), len(first))
