"""Runs one stage to its record: in a folder of its own, which gets the stage's name only when it has ended."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from harness.evaluation.loaded import model_of
from harness.events import RunLog
from harness.failures import TRANSIENT, advice
from harness.identity import IDENTITY, Identity
from harness.integrity import is_intact, standing
from harness.interrupts import StopRequest
from harness.launch import Ending, Launcher, Running
from harness.machine import git_commit, machine, versions
from harness.records import (
    CHECKPOINTS,
    RECORD,
    Failure,
    Record,
    Status,
    read_record,
    sound_record,
    write_json,
    write_record,
)
from harness.reserve import RESERVE_BYTES, with_room
from harness.reuse import PARTIAL
from harness.stage import STAGE, log_tail, make_room
from pipelines.stages import Stage

LOST = 255  # what multiprocessing gives for a child of a fork server that is gone
LEAST_FREE_BYTES = 2 * RESERVE_BYTES  # the reserve may have been given up meanwhile
RETRY_SECONDS = 10.0
OOM_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


@dataclass(frozen=True)
class Pause:
    """Time that passes before another attempt."""

    seconds: float


# Gives what is waited for, gets how a process ended, returns the record: others may be waited for meanwhile.
Attempts = Generator[Running | Pause, Ending | None, Record]


def run_stage(
    stage: Stage,
    identity: Identity,
    folder: Path,
    launcher: Launcher,
    log: RunLog,
    stop: StopRequest,
    *,
    decision_hash: str,
) -> Attempts:
    """Run one stage; where a run before was killed in the middle of it, go on from its checkpoints.

    Whoever drives it waits for what it gives, and sends it the `Ending` of a process.

    Args:
        stage: What to run.
        identity: What its id is a hash of.
        folder: The results folder; the stage gets a folder below it.
        launcher: Starts its process.
        log: Told how far it is.
        stop: Asked whether a person wants to stop.
        decision_hash: Of the decision rule in force, for its record.

    Raises:
        KeyboardInterrupt: a person wants to stop.
    """
    partial, final = folder / f"{PARTIAL}{stage.id}", folder / stage.id
    if standing(partial) == "whole" and is_intact(partial):  # killed between its record and its name
        shutil.rmtree(final, ignore_errors=True)
        return _named(partial, final, decision_hash)
    for attempt in range(1, stage.limits.retries + 2):
        _clear(partial, final)
        record = yield from _attempt(stage, identity, partial, launcher, log, stop)
        record = record.model_copy(update={"num_attempts": attempt})
        if record.status not in TRANSIENT or attempt > stage.limits.retries:
            break
        log.retried(stage, record)
        if record.status == "unreachable":
            yield Pause(RETRY_SECONDS * attempt)
    write_record(partial, record)
    return _named(partial, final, decision_hash)


def _attempt(
    stage: Stage, identity: Identity, partial: Path, launcher: Launcher, log: RunLog, stop: StopRequest
) -> Attempts:
    """One process for the stage; it leaves a record, or this function makes one of how it ended."""
    content = stage.model_dump(mode="json", by_alias=True)
    with_room(partial.parent, lambda: write_json(partial / STAGE, content))
    with_room(partial.parent, lambda: write_json(partial / IDENTITY, identity))

    def moved(phase: str, done: int, total: int) -> None:
        stop.check()
        log.moved(stage, phase, done, total)

    kills_before = oom_kills()
    ended = yield launcher.start(partial / STAGE, moved, stage.limits, holds=model_of(stage))
    assert ended is not None
    stop.check()
    return sound_record(partial) or _record_of_dead(
        stage, partial, ended, out_of_memory=oom_kills() > kills_before
    )


def _clear(partial: Path, final: Path) -> None:
    """Leave a `partial` that has nothing but the checkpoints of an attempt that did not come to its end."""
    if partial.is_dir():
        shutil.rmtree(final, ignore_errors=True)
    elif final.is_dir():
        final.rename(partial)
    partial.mkdir(exist_ok=True)
    # The record first: what is left of it must not be taken for finished.
    for leftover in sorted(partial.iterdir(), key=lambda path: path.name != RECORD):
        if leftover.name == CHECKPOINTS:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _named(partial: Path, final: Path, decision_hash: str) -> Record:
    """Give a stage that has ended its name; a success needs its checkpoints no more."""
    record = read_record(partial)
    assert record is not None
    if record.decision_hash is None:
        record = record.model_copy(update={"decision_hash": decision_hash})
        write_record(partial, record)
    if record.status == "done":
        shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
    partial.rename(final)
    return record


def _record_of_dead(stage: Stage, folder: Path, ended: Ending, *, out_of_memory: bool) -> Record:
    """What can be said of a stage whose process ended without a record."""
    status, message = _how_it_died(stage, folder, ended, out_of_memory=out_of_memory)
    if status == "disk_full":
        make_room(folder)
    return Record(
        stage=stage,
        status=status,
        outcome=None,
        failure=Failure(message=message, evidence=log_tail(folder), advice=advice(status, stage)),
        cost=None,
        machine=machine(),
        versions=versions(),
        git_commit=git_commit(),
        started_at="",
    )


def _how_it_died(stage: Stage, folder: Path, ended: Ending, *, out_of_memory: bool) -> tuple[Status, str]:
    if ended.cut == "hung":
        return "hung", f"no step and no new phase for {stage.limits.hang_minutes:g} minutes, so it was ended"
    if ended.cut == "timed_out":
        return "timed_out", f"it ran longer than stage_hours ({stage.limits.stage_hours:g}), so it was ended"
    if out_of_memory and ended.exit_code == -signal.SIGKILL:
        return "out_of_memory", "the kernel killed the process because memory ran out"
    if ended.exit_code == -signal.SIGKILL:
        return "killed", "the process was killed (signal 9), and the kernel counts no kill for want of memory"
    if ended.exit_code < 0:
        return "killed", f"the process was ended by signal {-ended.exit_code}"
    if ended.exit_code == LOST:
        return "killed", "the process is gone together with the fork server that started it"
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        return "disk_full", "no space is left on the disk of the results folder"
    return "failed", f"the process ended with exit code {ended.exit_code} and no record"


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, on this machine and in this control group, ever."""
    total = 0
    for path in OOM_COUNTERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return total
