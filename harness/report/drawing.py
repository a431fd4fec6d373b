"""Draws a page's figures, with the help of other processes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from harness.helpers import MOST_PROCESSES, Helpers
from harness.report.page import Drawn, Figure


def prepare_drawing(helpers: Helpers) -> None:
    """Have the helpers import what figures are drawn with, while there is nothing else for them to do."""
    for _ in range(MOST_PROCESSES):
        helpers.start(_import_matplotlib)


def drawn(figures: Sequence[Figure], helpers: Helpers) -> dict[str, Drawn]:
    """Each figure's drawing, by its stem, in the order of `figures`."""
    tasks = {}
    # The longest first, or it would be drawn alone in the end.
    for figure in sorted(figures, key=lambda figure: -len(pickle.dumps(figure.draw))):
        tasks[figure.stem] = helpers.start(figure.draw)
    return {figure.stem: tasks[figure.stem].result() for figure in figures}


def _import_matplotlib() -> None:
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
