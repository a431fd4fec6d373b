"""Drawings of curves of several models in one panel: calibration, and what looks during training saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.diagnostics_schema import ReliabilityBin
from harness.metrics import Direction
from harness.report.figures import (
    Curve,
    Point,
    best_for_their_price,
    in_thousands,
    mean_curve,
    panel_axes,
    saved,
    short_names,
)
from harness.report.page import Drawn
from harness.report.palette import INK, PAPER, Look, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_PAIRS = 10  # in a bin of a reliability curve
LEGEND_COLUMNS = 2
LEGEND_DROP, LEGEND_ROW = 0.45, 0.15  # inches: room for the ticks and their label; a line of names


@dataclass(frozen=True)
class Reliability:
    """How often a model is right, by how sure it is, the least sure first."""

    name: str
    look: Look
    bins: Sequence[ReliabilityBin]


@dataclass(frozen=True)
class Line:
    """One quantity of one model: a curve of each seed."""

    name: str
    look: Look
    curves: Sequence[Curve]


@dataclass(frozen=True)
class LinesPanel:
    """Lines that share axes."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    level: float | None = None  # drawn across


def draw_reliability(panels: Sequence[tuple[str, Sequence[Reliability]]]) -> Drawn:
    """Draw accuracy against confidence, a panel for each reward, beside the line on which both are equal.

    Bins of fewer than `FEW_PAIRS` pairs are hollow.
    """
    with drawing():
        figure, all_axes = panel_axes(len(panels), with_legend(2.6, len(panels[0][1])))
        for axes, (title, curves) in zip(all_axes, panels, strict=True):
            axes.plot([0.5, 1], [0.5, 1], ":", color=INK, linewidth=1)
            labels = short_names(curve.name for curve in curves)
            for curve in curves:
                x, y = [one.confidence for one in curve.bins], [one.accuracy for one in curve.bins]
                _marked(axes, x, y, curve.look, labels[curve.name], linewidth=1, markersize=4)
                few = [one for one in curve.bins if one.num_pairs < FEW_PAIRS]
                axes.plot(
                    [one.confidence for one in few],
                    [one.accuracy for one in few],
                    curve.look.marker,
                    color=curve.look.colour,
                    markerfacecolor=PAPER,
                    markersize=4,
                )
            axes.set_title(title, fontweight="normal")
            axes.set_xlabel("confidence", fontsize=8)
            axes.set_xlim(0.48, 1.02)
            axes.set_ylim(-0.04, 1.04)
        all_axes[0].set_ylabel("share in which chosen is preferred", fontsize=8)
        legend_below(all_axes[0])
        return saved(figure)


def draw_fronts(
    panels: Sequence[tuple[str, Sequence[Point]]], *, y_label: str, direction: Direction
) -> Drawn:
    """Draw every point of a sweep against each cost; the dotted line joins those than which no cheaper one is as good.

    Args:
        panels: Label of the cost, and the points; points of one arm have one name.
        y_label: With the unit.
        direction: Which quality is better.
    """
    with drawing():
        labels = short_names(point.name for _, points in panels for point in points)
        figure, all_axes = panel_axes(len(panels), with_legend(2.8, len(labels)), columns=2, width=4.4)
        for axes, (x_label, points) in zip(all_axes, panels, strict=True):
            front = best_for_their_price(points, direction)
            axes.plot(
                [point.cost for point in front],
                [point.quality for point in front],
                ":",
                color=INK,
                linewidth=1,
            )
            for name, look in {point.name: point.look for point in points}.items():
                own = [point for point in points if point.name == name]
                axes.plot(
                    [point.cost for point in own],
                    [point.quality for point in own],
                    look.marker,
                    color=look.colour,
                    markersize=5,
                    alpha=0.8,
                    label=labels[name],
                )
            axes.set_xlabel(x_label, fontsize=8)
            axes.set_ylabel(y_label, fontsize=8)
            axes.locator_params(axis="x", nbins=5)
            legend_below(axes)
        return saved(figure)


def draw_lines(panels: Sequence[LinesPanel], *, columns: int) -> Drawn:
    """Draw thin curves for seeds and a thick one with marks for their mean, `columns` panels in a row."""
    with drawing():
        names = max(len(panel.lines) for panel in panels)
        figure, all_axes = panel_axes(len(panels), with_legend(2.4, names), columns=columns, width=4.4)
        for axes, panel in zip(all_axes, panels, strict=True):
            labels = short_names(line.name for line in panel.lines)
            for line in panel.lines:
                colour, _, dash = line.look
                for curve in line.curves:
                    axes.plot(curve.x, curve.y, color=colour, linestyle=dash, linewidth=0.6, alpha=0.4)
                mean = mean_curve(line.curves)
                _marked(axes, mean.x, mean.y, line.look, labels[line.name], linewidth=1.9, markersize=3.5)
            if panel.level is not None:
                axes.axhline(panel.level, color=INK, linestyle=":", linewidth=1)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label, fontsize=8)
            axes.set_ylabel(panel.y_label, fontsize=8)
            axes.locator_params(axis="x", nbins=5)
            in_thousands(axes)
            legend_below(axes)
        return saved(figure)


def with_legend(height: float, names: int) -> float:
    """A panel's height, in inches, with a legend of so many names below."""
    return height + LEGEND_ROW * -(-names // LEGEND_COLUMNS)


def legend_below(axes: Axes) -> None:
    """The legend under the panel: inside, it would lie across curves."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    beneath = axes.transAxes + ScaledTranslation(0, -LEGEND_DROP, figure.dpi_scale_trans)
    axes.legend(
        fontsize=7, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=beneath, ncols=LEGEND_COLUMNS
    )


def _marked(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    look: Look,
    label: str,
    *,
    linewidth: float,
    markersize: float,
) -> None:
    """Draw a line with a mark at each point, named in the legend."""
    colour, marker, dash = look
    axes.plot(
        x,
        y,
        marker,
        color=colour,
        linestyle=dash,
        linewidth=linewidth,
        markersize=markersize,
        label=label,
    )
