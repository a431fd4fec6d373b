"""Starts a stage in a fresh process and waits for it. Knows processes, not stages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Literal

from harness.stage import child

PRELOADED = "harness.preload"
SERVER_LOG = ".forkserver.log"
STOP_SECONDS = 5.0

StartMethod = Literal["forkserver", "spawn"]


class Launcher:
    """Runs stage files one at a time, each in a process of its own.

    `forkserver`: children come from a server that has the heavy imports loaded. `spawn`: each imports them itself.

    Args:
        method: How children start.
        log_folder: Where the fork server's own output goes.
    """

    def __init__(self, method: StartMethod, log_folder: Path) -> None:
        self.method = method
        self._context: ForkServerContext | SpawnContext
        if method == "spawn":
            self._context = multiprocessing.get_context("spawn")
        else:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload([PRELOADED])
            with _output_into(log_folder / SERVER_LOG):
                forkserver.ensure_running()

    def server_pid(self) -> int:
        """The fork server's process id, once its imports are done: it starts its first child only then."""
        first = self._context.Process(target=os.getppid)
        first.start()
        first.join()
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # CPython offers no other way
        assert isinstance(server, int)
        return server

    def run(self, stage_file: Path, report: Callable[[str, int, int], None]) -> int:
        """Run one stage to its end.

        Args:
            stage_file: A `stage.json`.
            report: Called with (phase, done, total) as the stage tells.

        Returns:
            The process' exit code; minus the signal's number if a signal ended it.
        """
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=child, args=(str(stage_file), time.monotonic(), there), name=stage_file.parent.name
        )
        process.start()
        there.close()
        try:
            _follow(here, report)
            process.join()
        except BaseException:
            process.terminate()
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            raise
        assert process.exitcode is not None
        return process.exitcode


def _follow(progress: connection.Connection, report: Callable[[str, int, int], None]) -> None:
    """Sleep on the child's connection until it closes, that is until the child has ended."""
    with contextlib.suppress(EOFError):
        while True:
            report(*progress.recv())


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
