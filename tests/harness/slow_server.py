"""A program: launches two fake stages from a fork server with slow imports, which is killed between the two.

Each stage writes into its file when its clock began.
"""

import os
import signal
import sys
from multiprocessing import connection
from pathlib import Path

from harness import launch


def note_clock(launcher: connection.Connection) -> None:
    """A FakeStage's process: notes what it was told of its launch."""
    stage_file, launched_at = launcher.recv()
    Path(stage_file).write_text(str(launched_at))


def main(folder: Path) -> None:
    """Leave files `first` and `second` in `folder`."""
    launch.PRELOADED, launch.run_stages = "tests.harness.slow_imports", note_clock
    launcher = launch.Launcher("forkserver", folder)
    for name in ("first", "second"):
        launcher.wait([launcher.start(folder / name, lambda *_: None)])
        server = launcher.server_pid()
        os.kill(server, signal.SIGKILL)
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)  # left for multiprocessing to find it dead


if __name__ == "__main__":
    main(Path(sys.argv[1]))
