"""The events of a run: one line each, in order, whatever ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.events import EVENTS, RunLog, read_events, run_log
from harness.lock import Holder
from harness.plan import Plan, read_plan
from harness.progress import Quiet
from harness.records import Failure, read_record
from harness.reuse import Work, work_left
from pipelines.stages import Limits
from tests.harness.fixtures_results import Run, make_results


def kinds(folder: Path) -> list[str]:
    return [event.event for event in read_events(folder)]


def go(log: RunLog, plan: Plan, work: Work, folder: Path) -> None:
    """The calls of a run whose first stage is done, whose second fails and whose third cannot run."""
    log.planned(plan, work)
    first, second, third, fourth = work.todo[:4]
    log.reused(fourth, folder.parent / "elsewhere" / fourth.id)
    done = next(record for stage in plan.stages if (record := read_record(folder / stage.id)))
    for stage, record in ((first, done), (second, done.model_copy(update={"status": "failed"}))):
        log.started(stage)
        log.moved(stage, "train", 1, 10)
        log.finished(stage, record)
    log.skipped(third, "an input failed")


def test_every_event_is_a_line_with_its_time_and_its_stage(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=1))
    plan = read_plan(folder)
    work = work_left(plan, folder)
    with run_log(folder, Quiet(), None) as log:
        go(log, plan, work, folder)
    assert kinds(folder) == [
        "run_started", "planned", "stage_reused", "stage_started", "stage_finished", "stage_started", "stage_failed",
        "stage_skipped", "run_ended",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert lines[1]["todo"] == [stage.id for stage in work.todo]
    assert lines[1]["num_done"] + len(work.todo) == lines[1]["num_stages"] == len(plan.stages)
    assert lines[3]["stage"] == work.todo[0].id
    assert lines[2]["message"] == "from elsewhere"
    cost = next(record.cost for stage in plan.stages if (record := read_record(folder / stage.id)))
    assert cost is not None
    assert (
        lines[4]["seconds"] == cost.total_seconds
    )  # as on the bill: not what the fork server took to be there
    assert lines[-1]["status"] == "failed"
    assert not (folder / ".progress.json").exists()


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (OSError, "broken")])
def test_a_run_that_is_broken_off_says_how(tmp_path: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), run_log(tmp_path, Quiet(), None):
        raise error
    assert [event.status for event in read_events(tmp_path)] == [None, status]


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def test_a_further_attempt_is_one_line_and_one_event_with_the_reason(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=1))
    plan = read_plan(folder)
    stage = plan.stages[-1]
    stage = stage.model_copy(update={"limits": Limits(retries=2)})
    done = next(record for one in plan.stages if (record := read_record(folder / one.id)))
    failure = Failure(message="the process was killed (signal 9)", evidence="")
    said = Said()
    with run_log(folder, said, None) as log:
        log.planned(plan, work_left(plan, folder))
        before = len(said.lines)
        log.retried(stage, done.model_copy(update={"status": "killed", "failure": failure}))
    (line,) = said.lines[before:]
    assert line.endswith(
        f"({stage.id}) killed, attempt 1 of 3: the process was killed (signal 9). Trying again"
    )
    (event,) = [event for event in read_events(folder) if event.event == "stage_retried"]
    assert (event.stage, event.status, event.message) == (stage.id, "killed", failure.message)


def test_a_line_that_a_kill_cut_off_is_passed_over_and_the_next_run_writes_on(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(b'{"time": "2026-11-24T00:00:00+00:00", "event": "run_sta')
    holder = Holder(pid=7, since="2026-11-24T00:00:00+00:00", host="somewhere")
    with run_log(tmp_path, Quiet(), holder):
        pass
    assert kinds(tmp_path) == ["run_started", "run_ended"]
    text = (tmp_path / EVENTS).read_text()
    assert "pid 7" in text
    assert "somewhere" not in text
