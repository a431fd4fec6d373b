"""Stages at a time: never before what they read, never more than there are workers, each failure its own."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.disk import DiskCheck
from harness.evaluation.loaded import model_of
from harness.events import RunLog, read_events
from harness.interrupts import StopRequest
from harness.launch import Ending
from harness.machine import machine
from harness.plan import Plan
from harness.planning import make_plan
from harness.progress import Quiet
from harness.records import Failure, Record, Status, read_record, write_record
from harness.reuse import Work, inputs_of
from harness.stage import STAGE
from harness.workers import Workers
from pipelines.stages import Limits, Stage, TrainSettings
from tests.harness.fixtures_results import Run

JUDGE = {
    "kind": "llm", "name": "judge", "base_url": "http://localhost:1/v1", "model": "m", "token_cap": 10,
}  # fmt: skip


class FakeRunning:
    def __init__(self, folder: Path, stage: Stage) -> None:
        self.folder, self.stage = folder, stage


class FakeLauncher:
    """Stages that end when `ends` says so, with the status that `statuses` has for them; else well.

    Attributes:
        started: Stages in the order in which they started.
        beside: The stages that ran when each one started, itself included.
    """

    def __init__(
        self,
        most: int,
        ends: Callable[[Sequence[FakeRunning]], FakeRunning] = lambda running: running[0],
        statuses: dict[str, list[Status]] | None = None,
    ) -> None:
        self.most, self._ends, self._statuses = most, ends, statuses or {}
        self._running: list[FakeRunning] = []
        self.started: list[Stage] = []
        self.beside: list[list[Stage]] = []

    def start(self, stage_file: Path, report: Any, limits: Any, *, holds: str | None) -> FakeRunning:
        stage = Stage.model_validate_json(stage_file.read_text())
        results = stage_file.parent.parent
        for name in inputs_of(stage):
            record = read_record(results / name)
            assert record is not None
            assert record.status == "done"
        running = FakeRunning(stage_file.parent, stage)
        self._running.append(running)
        self.started.append(stage)
        self.beside.append([one.stage for one in self._running])
        return running

    def wait(self, running: list[FakeRunning], *, seconds: float) -> tuple[FakeRunning, Ending] | None:
        assert set(running) == set(self._running)
        if not running:
            assert 0 < seconds <= 10
            return None
        ended = self._ends(running)
        self._running.remove(ended)
        left = self._statuses.get(ended.stage.id)
        write_record(ended.folder, record_of(ended.stage, left.pop(0) if left else "done"))
        return ended, Ending(0)


def record_of(stage: Stage, status: Status) -> Record:
    return Record(
        stage=stage,
        status=status,
        outcome=None,
        failure=None if status == "done" else Failure(message=f"it {status}", evidence=""),
        cost=None,
        machine=machine(),
        versions={},
        git_commit=None,
        started_at="2026-11-28T00:00:00+00:00",
    )


def planned(**changes: Any) -> Plan:
    judges = (JUDGE,) if changes.pop("judges", False) else ()
    return make_plan(Run(seeds=2, judges=judges, changes=changes).comparison())


def run(plan: Plan, launcher: FakeLauncher, folder: Path) -> set[str]:
    log = RunLog(folder, Quiet())
    log.planned(plan, Work(plan.stages, {}, 0))
    failed: set[str] = set()
    disk = DiskCheck(folder)
    workers = Workers(plan, folder, launcher, log, StopRequest(), disk, failed=failed)  # type: ignore[arg-type]
    workers.run(plan.stages)
    return failed


def test_one_worker_runs_the_stages_in_the_order_of_the_plan(tmp_path: Path) -> None:
    plan, launcher = planned(), FakeLauncher(1)
    assert run(plan, launcher, tmp_path) == set()
    assert [stage.id for stage in launcher.started] == [stage.id for stage in plan.stages]
    assert all(len(beside) == 1 for beside in launcher.beside)


@pytest.mark.parametrize("seed", range(5))
def test_several_run_whatever_ends_first_each_once_and_none_before_what_it_reads(
    tmp_path: Path, seed: int
) -> None:
    plan, launcher = planned(), FakeLauncher(3, random.Random(seed).choice)
    assert run(plan, launcher, tmp_path) == set()  # that inputs are done is asserted whenever one starts
    assert sorted(stage.id for stage in launcher.started) == sorted(stage.id for stage in plan.stages)
    assert max(len(beside) for beside in launcher.beside) == 3


@pytest.mark.parametrize("seed", range(5))
def test_evaluations_of_a_model_take_turns_so_that_one_process_loads_it(tmp_path: Path, seed: int) -> None:
    plan, launcher = planned(), FakeLauncher(4, random.Random(seed).choice)
    run(plan, launcher, tmp_path)
    for beside in launcher.beside:
        models = [model for stage in beside if (model := model_of(stage))]
        assert len(models) == len(set(models))


def test_stages_that_pay_for_tokens_under_one_cap_take_turns(tmp_path: Path) -> None:
    plan, launcher = planned(judges=True), FakeLauncher(4, lambda running: running[-1])
    run(plan, launcher, tmp_path)
    paid = [
        sum(getattr(getattr(stage.settings, "judge", None), "kind", "") == "llm" for stage in beside)
        for beside in launcher.beside
    ]
    assert max(paid) == 1
    assert sum(stage.kind == "judge" for stage in launcher.started) > 2


@pytest.mark.parametrize("most", [1, 3])
def test_a_stage_that_fails_stops_what_depends_on_it_and_nothing_beside_it(tmp_path: Path, most: int) -> None:
    plan = planned()
    bad = next(stage for stage in plan.stages if stage.kind == "sft")
    launcher = FakeLauncher(most, statuses={bad.id: ["not_finite"]})
    failed = run(plan, launcher, tmp_path)
    depends = {bad.id}
    for stage in plan.stages:
        if inputs_of(stage) & depends:
            depends.add(stage.id)
    assert len(depends) > 2
    assert failed == depends
    assert {stage.id for stage in launcher.started} == {stage.id for stage in plan.stages} - depends | {
        bad.id
    }
    events = {event.stage: event.event for event in read_events(tmp_path)}
    assert events[bad.id] == "stage_failed"
    assert {events[stage] for stage in depends - {bad.id}} == {"stage_skipped"}


@pytest.mark.parametrize("num_rows", [10, 10**15])
def test_the_disk_is_asked_before_training_for_a_model_that_is_fetched_during_the_run(
    tmp_path: Path, num_rows: int
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    plan = planned(model={"name": str(model)})

    class Fetching(FakeLauncher):
        def start(self, *arguments: Any, **others: Any) -> FakeRunning:
            head = json.dumps(
                {"a": {"dtype": "F32", "shape": [num_rows, 3], "data_offsets": [0, 0]}}
            ).encode()
            (model / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
            return super().start(*arguments, **others)

    launcher = Fetching(1)
    failed = run(plan, launcher, tmp_path)
    trained = {stage.id for stage in plan.stages if isinstance(stage.settings, TrainSettings)}
    if num_rows == 10:
        assert not failed
        return
    assert trained <= failed
    assert {stage.kind for stage in launcher.started} == {"data", "evaluate"}  # of the base
    reasons = {event.message for event in read_events(tmp_path) if event.stage in trained}
    (reason,) = (one for one in reasons if one != "an input failed")
    assert reason is not None
    assert re.fullmatch(
        r"the disk of the results must have \S+ \w+ free for the \d+ stages .*, has \S+ \w+", reason
    )


def test_a_stage_that_waits_for_another_attempt_holds_up_none_beside_it(tmp_path: Path) -> None:
    plan = planned()
    bad = next(stage for stage in plan.stages if stage.kind == "orpo")
    plan = plan.model_copy(
        update={"stages": [stage.model_copy(update={"limits": Limits(retries=1)}) for stage in plan.stages]}
    )
    launcher = FakeLauncher(2, statuses={bad.id: ["unreachable"]})
    assert run(plan, launcher, tmp_path) == set()
    attempts = [place for place, stage in enumerate(launcher.started) if stage.id == bad.id]
    assert len(attempts) == 2
    # All that does not wait for it ran during its pause, one at a time.
    between = launcher.beside[attempts[0] + 1 : attempts[1]]
    assert len(between) > 5
    record = read_record(tmp_path / bad.id)
    assert record is not None
    assert record.num_attempts == 2


def test_a_failed_stage_of_this_run_is_not_tried_again(tmp_path: Path) -> None:
    plan, launcher = planned(), FakeLauncher(2)
    bad = next(stage for stage in plan.stages if stage.kind == "orpo")
    log = RunLog(tmp_path, Quiet())
    log.planned(plan, Work(plan.stages, {}, 0))
    disk = DiskCheck(tmp_path)
    workers = Workers(plan, tmp_path, launcher, log, StopRequest(), disk, failed={bad.id})  # type: ignore[arg-type]
    workers.run(plan.stages)
    assert bad.id not in {stage.id for stage in launcher.started}


def test_the_number_of_stages_at_a_time_is_in_each_stage_and_in_no_identity(tmp_path: Path) -> None:
    alone, together = planned(), planned(workers=3, metering="relaxed")
    assert [stage.id for stage in alone.stages] == [stage.id for stage in together.stages]
    assert {stage.workers for stage in alone.stages} == {1}
    launcher = FakeLauncher(3)
    run(together, launcher, tmp_path)
    written = {json.loads(path.read_text())["workers"] for path in tmp_path.glob(f"*/{STAGE}")}
    assert written == {3}
