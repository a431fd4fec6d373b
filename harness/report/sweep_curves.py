"""Drawings of what the values of swept settings were worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.curves import legend_below, with_legend
from harness.report.figures import COLUMNS, Bounds, panel_axes, saved
from harness.report.page import Drawn
from harness.report.palette import DASHES, INK, MARKERS, Look, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARACTER = 0.026  # of the axis' length, in its labels
MOST_LINES = len(MARKERS)  # of a panel
SHARE_OF_ROOM = 0.15  # of the scale of quality, above and below what it must show
SMALL = 0.001
LOG_SPAN = 5  # an axis whose values differ by more than this factor is logarithmic


@dataclass(frozen=True)
class SweepLine:
    """Points that differ in one key alone, in order of its value.

    Attributes:
        label: What their other swept keys hold; empty where nothing else was swept.
        joined: Whether they really differ in nothing else, so that a line may join them.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    bounds: Sequence[Bounds]
    seeds: Sequence[Sequence[float]]
    chosen: Sequence[bool]
    joined: bool = True


@dataclass(frozen=True)
class SweepPanel:
    """What the values of one swept key of one arm were worth.

    Attributes:
        arm: Its name, short enough for a title.
    """

    arm: str
    key: str
    look: Look
    lines: Sequence[SweepLine]

    @property
    def title(self) -> str:
        """The arm's name and the key's."""
        return f"{self.arm}: {self.key}"


def draw_sweep(panels: Sequence[SweepPanel], *, y_label: str) -> Drawn:
    """Draw a panel for each swept key, all on one scale of quality; of each at most `MOST_LINES` lines."""
    with drawing():
        named = max(len(panel.lines[:MOST_LINES]) for panel in panels)
        figure, all_axes = panel_axes(len(panels), with_legend(2.6, named) if named > 1 else 2.6)
        for place, (axes, panel) in enumerate(zip(all_axes, panels, strict=True)):
            for line_place, line in enumerate(panel.lines[:MOST_LINES]):
                _draw_line(axes, line, _look(panel.look, line_place))
            label_values(axes, panel)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.key, fontsize=8)
            axes.set_ylabel(y_label if place % COLUMNS == 0 else "", fontsize=8)
            axes.grid(visible=True, axis="y", color=INK, alpha=0.12, linewidth=0.6)
            if len(panel.lines) > 1:
                legend_below(axes)
        for axes in all_axes:
            axes.set_ylim(limits(panels))
        return saved(figure)


def limits(panels: Sequence[SweepPanel]) -> tuple[float, float]:
    """What the scale of all panels spans: every mean and every seed. Of two seeds an interval may be many times as long."""
    lines = [line for panel in panels for line in panel.lines[:MOST_LINES]]
    values = [value for line in lines for value in (*line.y, *(one for seeds in line.seeds for one in seeds))]
    room = SHARE_OF_ROOM * (max(values) - min(values)) or SHARE_OF_ROOM
    return min(values) - room, max(values) + room


def ticks(panel: SweepPanel) -> list[float]:
    """Values that are labelled on the axis: the chosen one, then from the left those that find room beside the labelled ones."""
    values = sorted({x for line in panel.lines for x in line.x})
    place: Callable[[float], float] = math.log if is_logarithmic(values) else float
    span = place(values[-1]) - place(values[0])

    def has_room(value: float, other: float) -> bool:
        letters = (len(_short(value)) + len(_short(other))) / 2 + 1
        return abs(place(value) - place(other)) >= CHARACTER * letters * span

    chosen = [
        x for line in panel.lines for x, is_chosen in zip(line.x, line.chosen, strict=True) if is_chosen
    ]
    labelled: list[float] = []
    for value in [*chosen, *values]:
        if value not in labelled and all(has_room(value, other) for other in labelled):
            labelled.append(value)
    return sorted(labelled)


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether so different values, in ascending order, are drawn on a logarithmic axis."""
    return values[0] > 0 and values[-1] > LOG_SPAN * values[0]


def _look(of_arm: Look, place: int) -> Look:
    """The arm's own for the first line, its colour with other marks and dashes for the others."""
    marker = MARKERS[(MARKERS.index(of_arm.marker) + place) % len(MARKERS)]
    return Look(of_arm.colour, marker, DASHES[(DASHES.index(of_arm.dash) + place) % len(DASHES)])


def _draw_line(axes: Axes, line: SweepLine, look: Look) -> None:
    dash = look.dash if line.joined else "none"
    axes.plot(
        line.x,
        line.y,
        look.marker,
        color=look.colour,
        linestyle=dash,
        linewidth=1,
        markersize=5,
        label=line.label,
    )
    for x, y, bounds, seeds, chosen in zip(line.x, line.y, line.bounds, line.seeds, line.chosen, strict=True):
        axes.plot([x] * len(seeds), seeds, look.marker, color=look.colour, markersize=2.5, alpha=0.55)
        if bounds is not None:
            axes.plot([x, x], bounds, color=look.colour, linewidth=1.2, alpha=0.7)
        if chosen:
            axes.plot([x], [y], "o", color=INK, markersize=11, fillstyle="none")


def label_values(axes: Axes, panel: SweepPanel) -> None:
    """Scale and labels of a panel's axis of values."""
    if is_logarithmic(sorted(x for line in panel.lines for x in line.x)):
        axes.set_xscale("log")
    labelled = ticks(panel)
    axes.set_xticks(labelled, [_short(value) for value in labelled], fontsize=8)
    unlabelled = {x for line in panel.lines for x in line.x} - set(labelled)
    axes.set_xticks(sorted(unlabelled), [""] * len(unlabelled), minor=True)


def _short(value: float) -> str:
    """`0.05`, `2`, and `2.5e-4` where that is shorter than its zeros."""
    if value == 0 or abs(value) >= SMALL:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
