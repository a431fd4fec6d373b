"""One run at a time in a folder: the second is told who holds it, and a dead one holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.lock import is_held, read_holder, run_lock

HOLD = """
import sys
from pathlib import Path
from harness.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_holds_the_folder_since_when_and_where(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    assert is_held(tmp_path)
    expected = rf"pid {other.pid} on {os.uname().nodename}, since \d{{4}}-\d\d-\d\dT[\d:]+\+00:00"
    with pytest.raises(UserError, match=expected), run_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_run_is_recovered_and_its_death_noticed(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    other.kill()
    other.communicate()
    with run_lock(tmp_path) as died:
        assert died is not None
        assert died.pid == other.pid
        holder = read_holder(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()


def test_a_run_that_ended_in_order_leaves_no_trace_of_a_death(tmp_path: Path) -> None:
    with run_lock(tmp_path) as died:
        assert died is None
    assert not is_held(tmp_path)
    with run_lock(tmp_path) as died:
        assert died is None


@pytest.mark.parametrize("text", ["", "{", '{"pid": "x"}'])
def test_a_damaged_word_of_the_holder_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / ".holder.json").write_text(text)
    with run_lock(tmp_path) as died:
        assert died is None
