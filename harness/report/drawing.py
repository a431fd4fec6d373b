"""Draws a page's figures: in processes of their own where there is much to read meanwhile, else here. The same bytes either way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness.interrupts import end_with_parent
from harness.report.page import Drawn, Figure

MANY_STAGES = 500  # reading fewer takes less time than a fork to import what it draws with
MOST_PROCESSES = 4


@contextmanager
def drawing_processes(folder: Path) -> Iterator[Executor | None]:
    """Processes that get ready to draw while the results in `folder` are read; None where they would not save time."""
    number = min(os.cpu_count() or 1, MOST_PROCESSES)
    many = number > 1 and sum(1 for _ in folder.iterdir()) >= MANY_STAGES
    # Forks have what this process has imported, which takes longer than to draw; a process with threads must not fork.
    if not many or sys.platform != "linux" or threading.active_count() > 1:
        yield None
        return
    pool = ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("fork"), initializer=_get_ready)
    try:
        pool.submit(int)  # forks all of them
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def drawn(figures: Sequence[Figure], pool: Executor | None) -> dict[str, Drawn]:
    """Each figure's drawing, by its stem.

    Args:
        figures: What to draw.
        pool: Processes to draw in; None: this one draws.
    """
    if pool is not None:
        try:
            tasks = {figure.stem: pool.submit(figure.draw) for figure in figures}
            return {stem: task.result() for stem, task in tasks.items()}
        except BrokenExecutor:  # one was killed, or could not start: a report needs none of them
            pass
    return {figure.stem: figure.draw() for figure in figures}


def _get_ready() -> None:
    """Leave stopping to the process that forked this one, and import what figures are drawn with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
