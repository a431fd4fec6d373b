"""Starts a stage in a process and waits for it. Knows processes, not stages."""

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

from harness.stage import STACKS_SIGNAL, run_stages
from pipelines.stages import Limits

PRELOADED = "harness.preload"
SERVER_LOG = ".forkserver.log"
STOP_SECONDS = 5.0
LEAVE_SECONDS = 60.0  # a driver takes its time to give back a GPU's memory
STACKS_SECONDS = 1.0  # what a process that hangs is given to write where it hangs

StartMethod = Literal["forkserver", "spawn"]
UNLIMITED = Limits()
Cut = Literal["hung", "timed_out"]
ENDED = None  # what a process says when its stage has succeeded and it could run another
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


@dataclass(frozen=True)
class _Child:
    """A process that runs stages, one after the other.

    Attributes:
        process: The process.
        connection: It is given stage files, and says how far it is.
        holds: What it has loaded, as the launcher's caller names it; None: nothing that serves another stage.
    """

    process: BaseProcess
    connection: connection.Connection
    holds: str | None

    def leave(self) -> int:
        """Let the process end, once its stage has; its exit code."""
        self.connection.close()
        self.process.join(LEAVE_SECONDS)
        if self.process.is_alive():  # it has left its record, so nothing is lost
            self.process.kill()
            self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def end(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Launcher:
    """Runs stage files one at a time, each in a process of its own, unless it can go on with what another has loaded.

    `forkserver`: children come from a server that has the heavy imports loaded. `spawn`: each imports them itself.

    Args:
        method: How children start.
        log_folder: Where the fork server's own output goes.
    """

    def __init__(self, method: StartMethod, log_folder: Path) -> None:
        self.method = method
        self._log = log_folder / SERVER_LOG
        self._idle: _Child | None = None
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

    def run(
        self, stage_file: Path, report: Report, limits: Limits = UNLIMITED, *, holds: str | None = None
    ) -> Ending:
        """Run one stage to its end, or until a limit is reached.

        Args:
            stage_file: A `stage.json`.
            report: Called with (phase, done, total) as the stage tells.
            limits: How long it may run, and be silent.
            holds: What its process has loaded afterwards: the next stage that says the same goes on in that process.
                None: the process is its own.
        """
        if self._idle is not None and not (self._idle.holds == holds and self._idle.process.is_alive()):
            self.close()
        given_at = time.monotonic()
        child, self._idle = self._idle or self._start(holds, stage_file.parent.name), None
        try:
            with contextlib.suppress(OSError):  # it was killed while it was idle: its end tells
                child.connection.send((str(stage_file), given_at))
            told = _follow(child.connection, report, limits)
            if told == "ended" and holds is not None:
                self._idle = child
                return Ending(0)
            if told is not None and told != "ended":
                _end_with_stacks(child.process)
        except BaseException:
            child.end()
            raise
        return Ending(child.leave(), None if told == "ended" else told)

    def close(self) -> None:
        """Let a process that waits for another stage end."""
        if self._idle is not None:
            self._idle.leave()
            self._idle = None

    def _start(self, holds: str | None, name: str) -> _Child:
        here, there = self._context.Pipe()
        process = self._context.Process(target=run_stages, args=(there,), name=name)
        process.start()
        there.close()
        return _Child(process, here, holds)


def _follow(progress: connection.Connection, report: Report, limits: Limits) -> Cut | Literal["ended"] | None:
    """Sleep on the child's connection until its stage has ended or a limit is reached; None: the child is gone."""
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
        if message is ENDED:
            return "ended"
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
