"""Starts a stage in a process and waits for it. Knows processes, not stages."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from harness.stage import STACKS_SIGNAL, STILL_THERE, run_stages
from pipelines.stages import Limits

PRELOADED = "harness.preload"
SERVER_LOG = ".forkserver.log"
START_ATTEMPTS = 3
STOP_SECONDS = 5.0
END_POLL_SECONDS = 0.01
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

    def answers(self) -> bool:
        """Whether it waits for another stage, as it says when it is asked.

        What the system knows of a process that was killed comes late: its threads hold the connection open for a while,
        and a fork server's child is alive until the server has noticed.
        """
        try:
            self.connection.send(STILL_THERE)
            return self.connection.poll(STOP_SECONDS) and self.connection.recv() is STILL_THERE
        except (EOFError, OSError):
            return False

    def leave(self) -> int:
        """Let the process end, once its stage has; its exit code."""
        self.connection.close()
        self.process.join(LEAVE_SECONDS)
        if self.process.is_alive():  # it has left its record, so nothing is lost
            self.process.kill()
            self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


class Running:
    """A stage that runs in a process, from its start to its end."""

    def __init__(self, child: _Child, report: Report, limits: Limits) -> None:
        self.child = child
        self._report = report
        self._started = self._heard = time.monotonic()
        self._silence = math.inf if limits.hang_minutes is None else limits.hang_minutes * 60
        self._length = math.inf if limits.stage_hours is None else limits.stage_hours * 3600

    @property
    def deadline(self) -> float:
        """When it reaches a limit unless it is heard of; `time.monotonic()`."""
        return min(self._heard + self._silence, self._started + self._length)

    def hear(self) -> Literal["ended", "gone"] | None:
        """Take what the process has said, and report it; None: the stage goes on."""
        try:
            message = self.child.connection.recv()
        except (EOFError, OSError):
            return "gone"
        if message is ENDED:
            return "ended"
        self._heard = time.monotonic()
        self._report(*message)
        return None

    def cut(self) -> Cut | None:
        """The limit that it has reached."""
        now = time.monotonic()
        if now >= self._started + self._length:
            return "timed_out"
        return "hung" if now >= self._heard + self._silence else None


class Launcher:
    """Runs stage files, each in a process of its own, unless it can go on with what another has loaded.

    `forkserver`: children come from a server that has the heavy imports loaded. `spawn`: each imports them itself.

    Args:
        method: How children start.
        log_folder: Where the fork server's own output goes.
        most: Processes that there may be at a time, those that wait for another stage among them.
    """

    def __init__(self, method: StartMethod, log_folder: Path, *, most: int = 1) -> None:
        self.method = method
        self._log = log_folder / SERVER_LOG
        self.most = most
        self._busy: list[_Child] = []
        self._idle: list[_Child] = []
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
        return _server_pid()

    def ask(
        self,
        target: Callable[[str, str, connection.Connection], None],
        questions: Sequence[str],
        *,
        patience_seconds: float,
    ) -> list[tuple[int, str]]:
        """Have processes that start as stages do answer questions, all at the same time.

        Args:
            target: Called in each process with its question, a file for its output and a connection for its answer.
            questions: Texts.
            patience_seconds: After so many seconds the processes are ended.

        Returns:
            An exit code and a text for each question.

        Raises:
            TimeoutError: one took longer.
            RuntimeError: one ended without an answer.
        """
        until = time.monotonic() + patience_seconds
        asked: list[tuple[BaseProcess, connection.Connection]] = []
        try:
            for question in questions:
                here, there = self._context.Pipe(duplex=False)
                process = self._started(target, (question, str(self._log), there))
                there.close()
                asked.append((process, here))
            answers = []
            for one, here in asked:
                if not here.poll(max(0, until - time.monotonic())):
                    raise TimeoutError(f"no answer after {patience_seconds:g} s")
                try:
                    answers.append(here.recv())
                except EOFError as error:
                    one.join()
                    raise RuntimeError(f"its process ended with exit code {one.exitcode}") from error
            return answers
        finally:
            for one, _ in asked:
                one.kill()
                one.join()

    def start(
        self, stage_file: Path, report: Report, limits: Limits = UNLIMITED, *, holds: str | None = None
    ) -> Running:
        """Start one stage.

        Args:
            stage_file: A `stage.json`.
            report: Called with (phase, done, total) as the stage tells, while it is waited for.
            limits: How long it may run, and be silent.
            holds: What its process has loaded afterwards: the next stage that says the same goes on in that process.
                None: the process is its own.
        """
        child = self._waiting_with(holds)
        if child is None:
            while self._idle and len(self._busy) + len(self._idle) >= self.most:
                self._idle.pop(0).leave()
        child = child or self._new(holds, stage_file.parent.name)
        # Its clock begins here: where the fork server still had to import, as in a run that goes on, the child was
        # waited for, and what serves every stage must not be on the bill of the first.
        launched_at = time.monotonic()
        self._busy.append(child)
        with contextlib.suppress(OSError):  # it was killed while it was idle: its end tells
            child.connection.send((str(stage_file), launched_at))
        return Running(child, report, limits)

    def wait(self, running: Sequence[Running], *, seconds: float = math.inf) -> tuple[Running, Ending] | None:
        """Sleep until a stage has ended, or has reached a limit and is ended; reports meanwhile.

        Args:
            running: Stages that were started here and have not ended.
            seconds: At most so long.

        Returns:
            The first stage that ended; None: none did in that time.
        """
        until = time.monotonic() + seconds
        while True:
            left = min([until, *(one.deadline for one in running)]) - time.monotonic()
            ready = connection.wait(
                [one.child.connection for one in running], None if left == math.inf else max(left, 0)
            )
            for one in running:
                told = one.hear() if one.child.connection in ready else None
                if told is not None:
                    return one, Ending(self._ended(one.child, reusable=told == "ended"))
                if (cut := one.cut()) is not None:
                    _end_with_stacks(one.child.process)
                    return one, Ending(self._ended(one.child, reusable=False), cut)
            if time.monotonic() >= until:
                return None

    def close(self) -> None:
        """End the stages that still run, whatever they do, and let processes that wait for another one end."""
        busy, idle, self._busy, self._idle = self._busy, self._idle, [], []
        for child in busy:
            child.connection.close()
            child.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for child in busy:
            child.process.join(max(0, until - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
        for child in idle:
            child.leave()

    def _waiting_with(self, holds: str | None) -> _Child | None:
        """The process that waits for another stage and has loaded what this one needs."""
        for child in self._idle:
            if holds is not None and child.holds == holds and child.answers():
                self._idle.remove(child)
                return child
        return None

    def _new(self, holds: str | None, name: str) -> _Child:
        here, there = self._context.Pipe()
        process = self._started(run_stages, (there,), name=name)
        there.close()
        return _Child(process, here, holds)

    def _started(
        self, target: Callable[..., None], arguments: tuple[Any, ...], *, name: str | None = None
    ) -> BaseProcess:
        """A process that runs `target`; from another fork server where this one is gone, as when it was killed."""
        left = START_ATTEMPTS
        while True:
            process = self._context.Process(target=target, args=arguments, name=name)
            try:
                process.start()
            except (EOFError, ConnectionError):
                left -= 1
                if self.method == "spawn" or not left:
                    raise
            else:
                return process
            _wait_for_end(_server_pid())
            with _output_into(self._log):
                forkserver.ensure_running()

    def _ended(self, child: _Child, *, reusable: bool) -> int:
        """Let the process of a stage that has ended wait for another one, or end; its exit code, 0 where it waits."""
        self._busy.remove(child)
        if reusable and child.holds is not None:
            self._idle.append(child)
            return 0
        return child.leave()


def _server_pid() -> int:
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # CPython offers no other way
    assert isinstance(server, int)
    return server


def _wait_for_end(pid: int) -> None:
    """Wait until a killed child is gone: its connections close before, and until then it is taken for alive.

    It stays a zombie, so that multiprocessing finds out for itself.
    """
    until = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(END_POLL_SECONDS)


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
