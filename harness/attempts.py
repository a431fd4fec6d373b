"""Runs one stage to its record: in a folder of its own, which gets the stage's name only when it has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.events import RunLog
from harness.identity import IDENTITY, Identity
from harness.integrity import standing
from harness.interrupts import StopRequest
from harness.launch import Launcher
from harness.machine import git_commit, machine, versions
from harness.records import CHECKPOINTS, Failure, Record, read_record, write_json, write_record
from harness.reuse import PARTIAL
from harness.stage import STAGE, log_tail
from pipelines.stages import Stage


def run_stage(
    stage: Stage,
    identity: Identity,
    folder: Path,
    launcher: Launcher,
    log: RunLog,
    stop: StopRequest,
    *,
    decision_hash: str,
) -> Record:
    """Run one stage; where a run before was killed in the middle of it, go on from its checkpoints.

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
    _clear(partial, final)
    if standing(partial) == "whole":  # killed between its record and its name
        return _named(partial, final, decision_hash)
    write_json(partial / STAGE, stage.model_dump(mode="json", by_alias=True))
    write_json(partial / IDENTITY, identity)

    def moved(phase: str, done: int, total: int) -> None:
        stop.check()
        log.moved(phase, done, total)

    exit_code = launcher.run(partial / STAGE, moved)
    stop.check()
    if read_record(partial) is None:
        write_record(partial, _record_of_dead(stage, partial, exit_code))
    return _named(partial, final, decision_hash)


def _clear(partial: Path, final: Path) -> None:
    """Leave a `partial` that has nothing but the checkpoints of an attempt that did not come to its end."""
    if partial.is_dir():
        shutil.rmtree(final, ignore_errors=True)
    elif final.is_dir():
        final.rename(partial)
    partial.mkdir(exist_ok=True)
    if standing(partial) == "whole":
        return
    for leftover in partial.iterdir():
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


def _record_of_dead(stage: Stage, folder: Path, exit_code: int) -> Record:
    """What can be said of a stage whose process ended without a record."""
    message = f"the process ended with exit code {exit_code}"
    if exit_code < 0:
        message = f"the process was ended by signal {-exit_code}"
    if exit_code == -9:
        message += " (the kernel does so when memory runs out: try half the micro_batch)"
    return Record(
        stage=stage,
        status="killed" if exit_code < 0 else "failed",
        outcome=None,
        failure=Failure(message=message, evidence=log_tail(folder)),
        cost=None,
        machine=machine(),
        versions=versions(),
        git_commit=git_commit(),
        started_at="",
    )
