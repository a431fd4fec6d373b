"""The fork server runs no torch operation: a fork of a process that ran a parallel one hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from pathlib import Path
import torch
import harness.preload
def threads():
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return len([name for name in names if name != "jemalloc_bg_thd"])
print(threads(), torch.get_num_threads())
torch.ones(1 << 20).add(1)
print(threads())
"""


def test_the_imports_of_the_fork_server_leave_one_thread_and_a_torch_operation_would_leave_more() -> None:
    """Arrow's allocator has a thread of its own, and OpenBLAS, where it is not told to have none: both provide for forks."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = done.stdout.splitlines()[-2:]
    assert before == "1 2"
    assert int(after) > 1
