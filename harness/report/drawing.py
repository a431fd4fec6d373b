"""Draws a page's figures: in processes of their own where there is much to read meanwhile, else here. The same bytes either way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness.report.page import Drawn, Figure

MANY_STAGES = 500  # reading fewer takes less time than a process to start and import what it draws with
MOST_PROCESSES = 4


@contextmanager
def drawing_processes(folder: Path) -> Iterator[Executor | None]:
    """Processes that get ready to draw while the results in `folder` are read; None where they would not save time."""
    number = min(os.cpu_count() or 1, MOST_PROCESSES)
    if number < 2 or sum(1 for _ in folder.iterdir()) < MANY_STAGES:
        yield None
        return
    # Not forked: a run that ends with a report may have threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_leave_stopping_to_parent)
    try:
        for _ in range(number):  # it starts one for each task that finds none idle
            pool.submit(_get_ready)
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


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


def _leave_stopping_to_parent() -> None:
    from harness.stage import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _get_ready() -> None:
    """Import what figures are drawn with."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401

    import harness.report.write  # noqa: F401
