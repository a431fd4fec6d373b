"""Processes that do part of the work of this one where that saves time: the same results either way."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.interrupts import end_with_parent

MANY_STAGES = 500  # fewer are read and drawn in less time than a helper needs for its imports
MOST_PROCESSES = 4

Made = TypeVar("Made")


@dataclass(frozen=True)
class Task(Generic[Made]):
    """Work whose result is fetched later.

    Attributes:
        future: A helper's; None: the work is done when it is asked for.
    """

    work: Callable[..., Made]
    arguments: tuple[Any, ...]
    future: Future[Made] | None

    def result(self) -> Made:
        """What the work gives, or raises; done here where its helper was killed."""
        if self.future is not None:
            with suppress(BrokenExecutor):
                return self.future.result()
        return self.work(*self.arguments)


@dataclass(frozen=True)
class Helpers:
    """The processes; without an executor everything is done here."""

    executor: Executor | None = None

    def start(self, work: Callable[..., Made], *arguments: Any) -> Task[Made]:
        """Begin `work`; it, its arguments and its result must be such as can be pickled."""
        future = None
        if self.executor is not None:
            with suppress(BrokenExecutor):
                future = self.executor.submit(work, *arguments)
        return Task(work, arguments, future)


NOBODY = Helpers()


@contextmanager
def helpers_for(folder: Path) -> Iterator[Helpers]:
    """Helpers for a results folder with many stages, until the context ends."""
    number = min(os.cpu_count() or 1, MOST_PROCESSES)
    many = number > 1 and sum(1 for _ in folder.iterdir()) >= MANY_STAGES
    # Forks have what this process has imported, which takes longer than the work; a process with threads must not fork.
    if not many or sys.platform != "linux" or threading.active_count() > 1:
        yield NOBODY
        return
    executor = _forked(number)
    if executor is None:
        yield NOBODY
        return
    try:
        yield Helpers(executor)
    finally:
        executor.shutdown(cancel_futures=True)


def _forked(number: int) -> ProcessPoolExecutor | None:
    """So many forks of this process; None where the system gives no processes, or no shared memory for their locks."""
    others = multiprocessing.active_children()
    try:
        executor = ProcessPoolExecutor(
            number, mp_context=multiprocessing.get_context("fork"), initializer=_get_ready
        )
        executor.submit(int)  # forks all of them
    except (OSError, NotImplementedError):
        for child in multiprocessing.active_children():
            if child not in others:
                child.kill()
                child.join()
        return None
    return executor


def _get_ready() -> None:
    """Leave stopping to the process that forked this one; what it makes it keeps for the seconds that it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    gc.disable()
