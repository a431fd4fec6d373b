"""Runs stages, as many at a time as there are workers, each once what it reads is there. One worker keeps the plan's order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from harness.attempts import Attempts, Pause, run_stage
from harness.disk import DiskCheck
from harness.evaluation.loaded import model_of
from harness.events import RunLog
from harness.interrupts import StopRequest
from harness.keeping import give_up_weights
from harness.launch import Ending, Launcher, Running
from harness.plan import Plan
from harness.records import Record
from harness.reserve import hold
from harness.reuse import inputs_of
from pipelines.judge_settings import LlmJudge
from pipelines.stages import JudgeSettings, Stage, TrainSettings


@dataclass
class _UnderWay:
    """A stage that has started and not ended.

    Attributes:
        attempts: What runs it.
        running: Its process; None: it waits for another attempt.
        resumes_at: When that comes, on the monotonic clock.
    """

    stage: Stage
    attempts: Attempts
    running: Running | None
    resumes_at: float = math.inf


class Workers:
    """Runs the stages of a plan.

    Args:
        plan: What they belong to.
        folder: The comparison's results folder.
        launcher: Starts their processes; as many stages run at a time as it may have of these.
        log: Told what happens.
        stop: Asked whether a person wants to stop.
        disk: Asked before training: by then the model may be here, and its size known.
        failed: Ids of stages that are not tried; gets those that fail or lack an input.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        launcher: Launcher,
        log: RunLog,
        stop: StopRequest,
        disk: DiskCheck,
        *,
        failed: set[str],
    ) -> None:
        self._plan, self._folder, self._launcher = plan, folder, launcher
        self._log, self._stop, self._disk, self._failed = log, stop, disk, failed
        self._under_way: dict[str, _UnderWay] = {}

    def run(self, todo: list[Stage]) -> None:
        """Run `todo`, which has inputs before what reads them.

        Raises:
            KeyboardInterrupt: a person wants to stop. What runs is left to the launcher to end.
        """
        waiting = list(todo)
        while True:
            self._stop.check()
            while len(self._under_way) < self._launcher.most and (stage := self._next(waiting)):
                self._start(stage, left=[stage, *waiting])
            if not self._under_way:
                return
            self._wait()

    def _next(self, waiting: list[Stage]) -> Stage | None:
        """Take the first stage that can run now from `waiting`, and every one before it that never can."""
        not_there = {stage.id for stage in waiting} | self._under_way.keys()
        taken = {turn for one in self._under_way.values() if (turn := _turn(one.stage))}
        for stage in list(waiting):
            if stage.id in self._failed:
                waiting.remove(stage)
            elif inputs_of(stage) & self._failed:
                waiting.remove(stage)
                self._skip(stage, "an input failed")
            elif not inputs_of(stage) & not_there and _turn(stage) not in taken:
                waiting.remove(stage)
                return stage
        return None

    def _start(self, stage: Stage, *, left: list[Stage]) -> None:
        trains = isinstance(stage.settings, TrainSettings)
        if trains and (lack := self._disk.lack(self._plan, left)) is not None:
            self._skip(stage, f"the disk of the results {lack}")
            return
        if not hold(self._folder):  # it could only fail, and fill the space that the report needs
            self._skip(stage, "no space is left on the disk of the results")
            return
        self._log.started(stage)
        identity, rule = self._plan.identities[stage.id], self._plan.decision_hash
        attempts = run_stage(
            stage, identity, self._folder, self._launcher, self._log, self._stop, decision_hash=rule
        )
        self._go_on(stage, attempts, None)

    def _wait(self) -> None:
        """Sleep until one of the stages can go on, and let it."""
        running = {one.running: one for one in self._under_way.values() if one.running is not None}
        soonest = min(self._under_way.values(), key=lambda one: one.resumes_at)
        found = self._launcher.wait(list(running), seconds=max(0, soonest.resumes_at - time.monotonic()))
        if found is None:
            self._go_on(soonest.stage, soonest.attempts, None)
        else:
            one, ending = running[found[0]], found[1]
            self._go_on(one.stage, one.attempts, ending)

    def _go_on(self, stage: Stage, attempts: Attempts, ending: Ending | None) -> None:
        try:
            awaited = attempts.send(ending)
        except StopIteration as ended:
            self._under_way.pop(stage.id, None)
            self._finish(stage, ended.value)
            return
        if isinstance(awaited, Pause):
            under_way = _UnderWay(stage, attempts, None, time.monotonic() + awaited.seconds)
        else:
            under_way = _UnderWay(stage, attempts, awaited)
        self._under_way[stage.id] = under_way

    def _finish(self, stage: Stage, record: Record) -> None:
        self._log.finished(stage, record)
        give_up_weights(self._plan, self._folder)
        if record.status != "done":
            self._failed.add(stage.id)

    def _skip(self, stage: Stage, reason: str) -> None:
        self._failed.add(stage.id)
        self._log.skipped(stage, reason)


def _turn(stage: Stage) -> str | None:
    """Stages that say the same take turns: they share what one process has loaded, or what may be spent on tokens."""
    if isinstance(stage.settings, JudgeSettings) and isinstance(stage.settings.judge, LlmJudge):
        return "llm"
    return model_of(stage)
