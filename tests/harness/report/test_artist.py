"""Figures drawn beside the report: the same bytes, no process left, an error where it is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from harness.cli import main
from harness.report import write_report
from harness.report.artist import ArtistBeside, Drawn
from tests.harness.fixtures_results import Run, make_results


def named(name: str) -> Drawn:
    return name.encode(), b""


def broken(name: str) -> Drawn:
    raise ValueError(f"cannot draw {name}")


def test_figures_come_back_in_any_order_of_asking() -> None:
    with ArtistBeside() as artist:
        first, second = artist(named, "first"), artist(named, name="second")
        assert second() == (b"second", b"")
        third = artist(named, "third")
        assert [each() for each in (first, third, second)] == [
            (b"first", b""),
            (b"third", b""),
            (b"second", b""),
        ]


def test_what_is_larger_than_a_pipe_goes_both_ways() -> None:
    name = "x" * 2**20
    with ArtistBeside() as artist:
        drawings = [artist(named, name) for _ in range(3)]
        assert all(drawing() == (name.encode(), b"") for drawing in drawings)


def test_an_error_is_raised_where_its_figure_is_asked_for_and_spoils_no_other() -> None:
    with ArtistBeside() as artist:
        bad, good = artist(broken, "it"), artist(named, "it")
        assert good() == (b"it", b"")
        with pytest.raises(ValueError, match="cannot draw it"):
            bad()


def test_a_report_of_the_command_is_that_of_a_call_to_the_byte(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run())
    write_report(folder, tmp_path / "here")
    assert main(["report", str(folder), "--reports", str(tmp_path / "beside")]) == 0
    files = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert sum(path.suffix == ".svg" for path in files) > 3
    assert all(
        (tmp_path / "beside" / path).read_bytes() == (tmp_path / "here" / path).read_bytes() for path in files
    )


def test_the_process_ends_with_the_one_that_asked_also_after_kill_9() -> None:
    script = """
        import time
        from harness.report.artist import ArtistBeside
        if __name__ == "__main__":
            artist = ArtistBeside()
            print(artist._process.pid, flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
