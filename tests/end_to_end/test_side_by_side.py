"""Two stages at a time: the same numbers to the bit, nothing left running, and a report that says so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.concurrency import read_choice
from harness.events import read_events
from harness.records import RECORD
from harness.results import read_results
from harness.status import status_lines
from harness.summary_schema import read_summary
from tests.end_to_end.small import prefduel, records, start_run
from tests.end_to_end.test_kills import (
    EVERY_STEP,
    SECONDS_TO_END,
    copy_inputs,
    family_of,
    is_server,
    outcomes,
    wait_until_gone,
)

TOGETHER: dict[str, Any] = {"workers": 2, "metering": "relaxed", "save_every_minutes": EVERY_STEP}


def wait_for_two(process: subprocess.Popen[str], root: Path) -> None:
    """Until two stages run at the same time, at least one of them past its first checkpoint."""
    while True:
        assert process.poll() is None, process.communicate()
        sealed = any((root / "results/small").glob(".partial-*/checkpoints/*/manifest.json"))
        running = list((root / "results/small").glob(".partial-*/stage.json"))
        if sealed and len(running) == len(stage_processes(process)) == 2:
            return
        time.sleep(0.005)


def stage_processes(process: subprocess.Popen[str]) -> list[psutil.Process]:
    servers = [child for child in psutil.Process(process.pid).children() if is_server(child)]
    return [child for server in servers for child in server.children()]


def kill_in_the_middle_of_its_stage(process: subprocess.Popen[str], root: Path) -> None:
    """Kill a stage's process that runs beside another, held still meanwhile: a process between two is not missed."""
    while True:
        wait_for_two(process, root)
        for stage in stage_processes(process):
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):  # it has just ended
                stage.suspend()
                log = Path(f"/proc/{stage.pid}/fd/1").readlink()  # its output goes into its stage's log
                if log.with_name("stage.json").exists() and not log.with_name(RECORD).exists():
                    stage.kill()
                    return
                stage.resume()


def most_at_a_time(folder: Path) -> int:
    """From the events, over all runs of the folder."""
    running: set[str | None] = set()
    most = 0
    for event in read_events(folder):
        if event.event == "run_started":
            running.clear()
        elif event.event == "stage_started":
            running.add(event.stage)
        else:
            running.discard(event.stage)
        most = max(most, len(running))
    return most


def test_two_at_a_time_whose_run_is_killed_and_run_again_give_the_numbers_of_one_alone(
    done: Path, tmp_path: Path
) -> None:
    copy_inputs(done, tmp_path, **TOGETHER)
    folder = tmp_path / "results/small"
    process = start_run(tmp_path)
    wait_for_two(process, tmp_path)
    while sum(line.startswith("now: ") for line in status_lines(folder)) < 2:  # one may just have ended
        assert process.poll() is None, process.communicate()
    wait_for_two(process, tmp_path)
    family = family_of(process)
    process.kill()
    process.communicate()
    wait_until_gone(family)
    ran = prefduel("run", "small.yaml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert outcomes(tmp_path) == outcomes(done)
    assert most_at_a_time(folder) == 2
    assert {record["cost"]["contended"] for record in records(tmp_path).values()} == {True}
    assert "unreliable, as stages ran side by side (metering: relaxed)" in ran.stdout
    assert any("metering: relaxed" in doubt for doubt in read_summary(folder).doubts)
    assert most_at_a_time(done / "results/small") == 1


def test_a_stop_ends_both_with_one_line_and_the_same_command_goes_on(done: Path, tmp_path: Path) -> None:
    copy_inputs(done, tmp_path, **TOGETHER)
    process = start_run(tmp_path)
    wait_for_two(process, tmp_path)
    family = family_of(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    _, errors = process.communicate(timeout=SECONDS_TO_END)
    assert process.returncode == 130
    assert errors == "interrupted. The same command goes on where it stopped.\n"
    wait_until_gone(family)
    assert not (tmp_path / "results/small/.progress.json").exists()
    *_, last = read_events(tmp_path / "results/small")
    assert (last.event, last.status) == ("run_ended", "interrupted")


@pytest.mark.slow  # without a whole comparison around it: tests/harness/test_launch.py
def test_a_stage_that_is_killed_beside_another_takes_nothing_along(done: Path, tmp_path: Path) -> None:
    """Its number of threads is measured before."""
    copy_inputs(done, tmp_path, **TOGETHER | {"threads": "auto", "retries": 0})
    process = start_run(tmp_path)
    kill_in_the_middle_of_its_stage(process, tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    folder = tmp_path / "results/small"
    results = read_results(folder)
    statuses = [record.status for record in results.records.values()]
    assert statuses.count("killed") == 1
    assert statuses.count("done") == len(statuses) - 1 >= 3
    choice = read_choice(folder)
    assert choice is not None
    assert choice.reason is None
    assert choice.workers == 2
    assert {stage.threads for stage in results.plan.stages} == {choice.threads}
    assert "Chosen for auto: 2 stages at a time" in (tmp_path / "reports/small.md").read_text()
