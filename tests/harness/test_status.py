"""`prefduel status`: what a run is doing, from its events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.cli import main
from harness.events import EVENTS, MOVES, RunLog, run_log
from harness.lock import run_lock
from harness.progress import Quiet
from harness.status import read_situation, status_lines

START = datetime(2026, 11, 24, 1, tzinfo=UTC)


def write_events(folder: Path, *events: dict[str, object]) -> None:
    rows = [
        {"time": (START + timedelta(seconds=10 * number)).isoformat(), **event}
        for number, event in enumerate(events)
    ]
    (folder / EVENTS).write_text("".join(json.dumps(row) + "\n" for row in rows))


HALF = (
    {"event": "run_started"},
    {"event": "planned", "num_stages": 6, "num_done": 1, "todo": ["sft-1", "dpo-1", "sft-2", "dpo-2", "orpo-1"]},
    {"event": "stage_started", "stage": "sft-1", "label": "sft seed 0: train sft"},
    {"event": "stage_finished", "stage": "sft-1", "label": "sft seed 0: train sft", "seconds": 30.0},
    {"event": "stage_started", "stage": "dpo-1", "label": "dpo seed 0: train dpo"},
    {"event": "stage_failed", "stage": "dpo-1", "label": "dpo seed 0: train dpo", "status": "not_finite",
     "message": "loss is nan", "seconds": 2.0},
    {"event": "stage_started", "stage": "sft-2", "label": "sft seed 1: train sft"},
)  # fmt: skip


def test_a_running_run_tells_how_far_it_is_and_how_long_still(tmp_path: Path) -> None:
    write_events(tmp_path, *HALF)
    (tmp_path / MOVES).write_text(json.dumps({"sft-2": {"phase": "train", "done": 3, "total": 9}}))
    with run_lock(tmp_path):
        lines = list(status_lines(tmp_path))
    assert "running, pid" in lines[0]
    assert lines[1] == "2 of 6 stages done, 1 failed or not run"
    assert "not_finite: loss is nan" in lines[2]
    assert "sft seed 1: train sft (sft-2)" in lines[3]
    assert lines[3].endswith("train 3/9")
    assert lines[4].endswith("left")


def test_time_left_is_that_of_stages_of_the_same_kind_less_what_has_passed(tmp_path: Path) -> None:
    write_events(tmp_path, *HALF)
    found = read_situation(tmp_path)
    running_since = START + timedelta(seconds=60)
    # sft-2 has 30 - 12 left; no dpo or orpo has finished, so both count as the mean of all, 30.
    assert found.seconds_left(running_since + timedelta(seconds=12)) == pytest.approx(18 + 30 + 30)
    # One that takes longer than expected counts 0, never less.
    assert found.seconds_left(running_since + timedelta(seconds=500)) == pytest.approx(60)


def test_every_running_stage_is_told_with_how_far_it_is(tmp_path: Path) -> None:
    two = {"event": "stage_started", "stage": "orpo-1", "label": "orpo seed 0: train orpo"}
    write_events(tmp_path, *HALF, two)
    (tmp_path / MOVES).write_text(json.dumps({"orpo-1": {"phase": "train", "done": 1, "total": 9}}))
    with run_lock(tmp_path):
        now = [line for line in status_lines(tmp_path) if line.startswith("now: ")]
    assert [line.partition(",")[0] for line in now] == [
        "now: sft seed 1: train sft (sft-2)", "now: orpo seed 0: train orpo (orpo-1)",
    ]  # fmt: skip
    assert now[1].endswith("train 1/9")
    # By the mean 30 s each: sft-2 has run 10 of them, orpo-1 none, dpo-2 waits.
    left = read_situation(tmp_path).seconds_left(START + timedelta(seconds=70))
    assert left == pytest.approx((20 + 30 + 30) / 2)


def test_a_run_that_died_or_ended_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_events(tmp_path, *HALF)
    assert main(["status", str(tmp_path)]) == 0
    assert "the last run died after 2026-11-24T01:01:00" in capsys.readouterr().out
    write_events(tmp_path, *HALF, {"event": "run_ended", "status": "interrupted"})
    assert main(["status", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "the last run ended at 2026-11-24T01:01:10+00:00: interrupted" in out
    assert "left" not in out


def test_a_second_run_starts_its_counts_anew_but_keeps_what_stages_took(tmp_path: Path) -> None:
    again = {"event": "planned", "num_stages": 6, "num_done": 2, "todo": ["dpo-1"]}
    write_events(tmp_path, *HALF, {"event": "run_started"}, again)
    found = read_situation(tmp_path)
    assert (found.num_done, found.ended, found.running) == (2, {}, {})
    assert found.seconds == {"sft": [30.0]}


def test_a_run_that_plans_says_so_and_not_what_the_one_before_did(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        first = list(status_lines(tmp_path))
        with run_log(tmp_path, Quiet(), None):
            pass
        second = list(status_lines(tmp_path))
        log = RunLog(tmp_path, Quiet())
        log.run_started()
        third = list(status_lines(tmp_path))
    for lines in (first, second, third):
        assert [line.split(",")[0] for line in lines] == [
            f"{tmp_path}: running",
            "preparing: what there is to do is not planned yet",
        ]


def test_a_folder_without_events_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path / "gone")]) == 2
    assert "has no events.jsonl" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path / "not" / "there"), "--once"]) == 2
    assert "must be a folder in which" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
