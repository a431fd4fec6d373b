"""Starts a stage in a fresh process and waits for it. Knows processes, not stages."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from harness.stage import STACKS_SIGNAL, child
from pipelines.stages import Limits

PRELOADED = "harness.preload"
SERVER_LOG = ".forkserver.log"
STOP_SECONDS = 5.0
STACKS_SECONDS = 1.0  # what a process that hangs is given to write where it hangs

StartMethod = Literal["forkserver", "spawn"]
UNLIMITED = Limits()
Cut = Literal["hung", "timed_out"]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ending:
    """How a stage's process ended.

    Attributes:
        exit_code: Minus the signal's number if a signal ended it.
        cut: Why this program ended it; None: it did not.
    """

    exit_code: int
    cut: Cut | None = None


class Launcher:
    """Runs stage files one at a time, each in a process of its own.

    `forkserver`: children come from a server that has the heavy imports loaded. `spawn`: each imports them itself.

    Args:
        method: How children start.
        log_folder: Where the fork server's own output goes.
    """

    def __init__(self, method: StartMethod, log_folder: Path) -> None:
        self.method = method
        self._log = log_folder / SERVER_LOG
        self._context: ForkServerContext | SpawnContext
        if method == "spawn":
            self._context = multiprocessing.get_context("spawn")
        else:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload([PRELOADED])
            with _output_into(self._log):
                forkserver.ensure_running()

    def server_pid(self) -> int:
        """The fork server's process id, once its imports are done: it starts its first child only then."""
        first = self._context.Process(target=os.getppid)
        first.start()
        first.join()
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # CPython offers no other way
        assert isinstance(server, int)
        return server

    def ask(
        self,
        target: Callable[[str, str, connection.Connection], None],
        question: str,
        *,
        patience_seconds: float,
    ) -> tuple[int, str]:
        """Have a process that starts as stages do answer a question.

        Args:
            target: Called in that process with the question, a file for its output and a connection for its answer.
            question: Text.
            patience_seconds: After them the process is ended.

        Raises:
            TimeoutError: it took longer.
            RuntimeError: it ended without an answer.
        """
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(question, str(self._log), there))
        process.start()
        there.close()
        try:
            if not here.poll(patience_seconds):
                raise TimeoutError(f"no answer after {patience_seconds:g} s")
            code, text = here.recv()
        except EOFError as error:
            process.join()
            raise RuntimeError(f"its process ended with exit code {process.exitcode}") from error
        finally:
            process.kill()
            process.join()
        return int(code), str(text)

    def run(self, stage_file: Path, report: Report, limits: Limits = UNLIMITED) -> Ending:
        """Run one stage to its end, or until a limit is reached.

        Args:
            stage_file: A `stage.json`.
            report: Called with (phase, done, total) as the stage tells.
            limits: How long it may run, and be silent.
        """
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=child, args=(str(stage_file), time.monotonic(), there), name=stage_file.parent.name
        )
        process.start()
        there.close()
        try:
            cut = _follow(here, report, limits)
            if cut is not None:
                _end_with_stacks(process)
            process.join()
        except BaseException:
            process.terminate()
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            raise
        assert process.exitcode is not None
        return Ending(process.exitcode, cut)


def _follow(progress: connection.Connection, report: Report, limits: Limits) -> Cut | None:
    """Sleep on the child's connection until it closes, that is until the child has ended, or a limit is reached."""
    started = heard = time.monotonic()
    silence = math.inf if limits.hang_minutes is None else limits.hang_minutes * 60
    length = math.inf if limits.stage_hours is None else limits.stage_hours * 3600
    while True:
        left = min(heard + silence, started + length) - time.monotonic()
        if not progress.poll(None if left == math.inf else max(left, 0)):
            return "timed_out" if time.monotonic() >= started + length else "hung"
        try:
            message = progress.recv()
        except (EOFError, OSError):
            return None
        heard = time.monotonic()
        report(*message)
        if heard >= started + length:
            return "timed_out"


def _end_with_stacks(process: BaseProcess) -> None:
    """Let the process write where each of its threads is into its log, then kill it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid or 0, STACKS_SIGNAL)
        process.join(STACKS_SECONDS)
        process.kill()


@contextlib.contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Processes that are started inside print into `log`: imports of heavy libraries are noisy."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        os.close(kept[0])
        os.close(kept[1])
