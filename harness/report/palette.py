"""One look for every figure: colours that colour-blind people tell apart, markers and dashes that differ as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# After Okabe and Ito. The first is not quite black, so that a page can tell it from the axes and turn both for the dark.
COLOURS = ("#111112", "#e08a00", "#0072b2", "#d04a00", "#00906a", "#c0669a", "#3f9fd8")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
INK = "#1a1a1b"  # axes and letters
PAPER = "#fffffe"  # behind a figure that stands alone: dark letters need it on a dark page

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "prefduel",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # where it would be put anyway: else it is searched for anew in each drawing
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.facecolor": "none",
}


class Look(NamedTuple):
    """How one model is drawn, in every figure alike."""

    colour: str
    marker: str
    dash: str


def look(place: int) -> Look:
    """The look of the model at `place` among all models: up to 56 differ."""
    return Look(
        COLOURS[place % len(COLOURS)],
        MARKERS[place % len(MARKERS)],
        DASHES[place // len(COLOURS) % len(DASHES)],
    )


@contextmanager
def drawing() -> Iterator[None]:
    """Let matplotlib draw with these settings; it is imported here, when a figure is drawn."""
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        yield
