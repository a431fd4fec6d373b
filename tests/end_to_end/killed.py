"""The command, killed by itself at one exact moment: `python -m tests.end_to_end.killed MOMENT run small.yaml`.

MOMENT is `before` or `after` the first stage of this run gets its name, or `operation:N`, the N-th file operation in
results and reports (and at the latest the moment `before`). Only this process is killed, with SIGKILL; what it has
started must notice.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from harness.cli import main
from harness.reuse import PARTIAL

PLACES = ("results", "reports")
OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Killer:
    """An audit hook: Python tells it of every file operation before it is done."""

    def __init__(self, moment: str) -> None:
        self._moment, _, number = moment.partition(":")
        self._left = int(number) if number else None
        self._named = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Kill this process if the moment has come."""
        if event not in OPERATIONS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        if not path.startswith(PLACES):
            return
        naming = event == "os.rename" and os.path.basename(path).startswith(PARTIAL)  # noqa: PTH119
        if self._left is not None:
            self._left -= 1
        if self._named or self._left == 0 or (naming and self._moment != "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        self._named = naming


if __name__ == "__main__":
    sys.addaudithook(Killer(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
