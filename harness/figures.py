"""The report's figures, the same bytes for the same results. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.metrics import Direction
from harness.summary_schema import MetricSummary, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind people too; markers differ as well.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
BETTER: dict[Direction, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "none": "neither is better",
}
COLUMNS, PANEL_INCHES = 3, (3.4, 2.5)
MOST_MODELS = len(COLOURS)
SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "prefduel",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class LossCurve:
    """The training loss of one stage of one trial.

    Attributes:
        style: Place of its model among all models, which gives it its colour in every figure.
        panel: What it is drawn with: curves of different losses do not share axes.
        pairs: Pairs seen, at each point.
    """

    style: int
    panel: str
    pairs: list[float]
    losses: list[float]


def draw_quality(summary: Summary, folder: Path) -> str | None:
    """Draw every metric of every model into `quality.svg` and `.png`; returns the text alternative."""
    models = dict(list(summary.models().items())[:MOST_MODELS])
    names = summary.metric_names()
    if not names:
        return None
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        found = {model: about.metrics[name] for model, about in models.items() if name in about.metrics}
        for place, (model, about) in enumerate(found.items()):
            _draw_model(axes, place, about, style=list(models).index(model))
        some = next(iter(found.values()))
        axes.set_title(name, fontweight="bold" if name == summary.verdict.metric else "normal", fontsize=9)
        axes.set_ylabel(some.unit)
        axes.set_xlabel(BETTER[some.direction], fontsize=8)
        axes.set_xticks(range(len(found)), [_folded(model) for model in found])
        axes.set_xlim(-0.6, len(found) - 0.4)
    _save(figure, folder / "quality")
    return (
        f"Means of {', '.join(names)} for {', '.join(models)}, one small mark a seed, bars are 95 % intervals"
    )


def draw_losses(curves: Iterable[LossCurve], folder: Path) -> str | None:
    """Draw the training losses into `losses.svg` and `.png`; returns the text alternative."""
    by_panel: dict[str, list[LossCurve]] = {}
    for curve in curves:
        if curve.losses:
            by_panel.setdefault(curve.panel, []).append(curve)
    if not by_panel:
        return None
    figure, panels = _panels(len(by_panel))
    for axes, (name, found) in zip(panels, by_panel.items(), strict=True):
        colour = COLOURS[found[0].style % len(COLOURS)]
        for curve in found:
            axes.plot(curve.pairs, curve.losses, color=colour, linewidth=0.7, alpha=0.45)
        shortest = min(found, key=lambda curve: len(curve.losses))
        columns = zip(*(curve.losses for curve in found), strict=False)
        axes.plot(
            shortest.pairs, [sum(column) / len(found) for column in columns], color=colour, linewidth=1.8
        )
        axes.set_title(f"{name} (n = {len(found)})", fontsize=9)
        axes.set_xlabel("pairs seen")
        axes.set_ylabel("training loss")
    _save(figure, folder / "losses")
    return f"Training loss against pairs seen for {', '.join(by_panel)}, thin lines are seeds, the thick one is their mean"


def _draw_model(axes: Axes, place: int, about: MetricSummary, *, style: int) -> None:
    colour, marker = COLOURS[style], MARKERS[style]
    count = len(about.by_seed)
    spread = [place + 0.18 + 0.22 * (index / (count - 1) if count > 1 else 0.5) for index in range(count)]
    axes.plot(spread, about.by_seed, marker, color=colour, markersize=3, alpha=0.6, linestyle="none")
    if about.low is not None and about.high is not None:
        axes.plot([place, place], [about.low, about.high], color=colour, linewidth=1.4)
    axes.plot([place], [about.mean], marker, color=colour, markersize=6)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        columns = min(COLUMNS, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
        return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _save(figure: Figure, stem: Path) -> None:
    from matplotlib import rc_context

    stem.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(SETTINGS):
        # Without these the time of drawing and the library's version would be in the files.
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None}, dpi=150)


def _folded(name: str) -> str:
    """A long name over several lines, broken at its hyphens."""
    return name if len(name) <= 10 else name.replace("-", "-\n")
