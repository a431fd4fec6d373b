"""Runs a comparison: every stage that is not done yet, then summary and report."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from harness.config import Comparison
from harness.errors import UserError
from harness.integrity import is_done
from harness.interrupts import StopRequest
from harness.launch import Launcher
from harness.machine import git_commit, machine, versions
from harness.outlook import stage_label
from harness.plan import COMPARISON, Plan
from harness.planning import make_plan
from harness.progress import Progress, make_progress
from harness.records import Failure, Record, read_record, write_json, write_record
from harness.stage import STAGE, log_tail
from pipelines.stages import Stage

LOCK = ".lock"


def run_comparison(
    comparison: Comparison, *, arms: list[str] | None, results: Path, reports: Path, quiet: bool
) -> int:
    """Run what is not done yet, then write summary and report and print the verdict.

    Args:
        comparison: The validated config.
        arms: Only these arms; all if None.
        results: Folder below which the comparison has its own.
        reports: Folder that gets the report.
        quiet: Print nothing but the verdict.

    Returns:
        0 when every stage is done, 1 when some failed.

    Raises:
        UserError: another run holds the results folder, or the folder cannot be written.
    """
    folder = results / comparison.name
    plan = make_plan(comparison, arms=arms)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reports.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder}: another run is working in this folder. Wait for it, or use --results."
        ) from error
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}). Use --results and --reports."
        ) from error
    with lock:
        write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))
        progress = make_progress(quiet=quiet)
        try:
            with StopRequest() as stop:
                failed = _run_stages(plan, folder, progress, stop)
        finally:
            progress.close()
        _conclude(folder, reports)
    return 1 if failed else 0


def _run_stages(plan: Plan, folder: Path, progress: Progress, stop: StopRequest) -> set[str]:
    """Run the stages in order; return the ids of those that failed or lack an input."""
    todo = [stage for stage in plan.stages if not is_done(folder / stage.id)]
    progress.message(f"{len(plan.stages)} stages, {len(plan.stages) - len(todo)} already done")
    if not todo:
        return set()
    launcher = Launcher("spawn" if todo[0].device == "cuda" else "forkserver", folder)
    labels = {stage.id: stage_label(plan, stage) for stage in todo}
    failed: set[str] = set()
    for number, stage in enumerate(todo, start=1):
        stop.check()
        inputs = {name for name in stage.inputs.model_dump().values() if name}
        if inputs & failed:
            failed.add(stage.id)
            progress.message(
                f"[{number}/{len(todo)}] {labels[stage.id]} ({stage.id}) not run: an input failed"
            )
            continue
        progress.started(stage, labels[stage.id], number, len(todo))
        record = _run_stage(stage, folder, launcher, progress, stop)
        progress.finished(stage, record)
        if record.status != "done":
            failed.add(stage.id)
    return failed


def _run_stage(
    stage: Stage, folder: Path, launcher: Launcher, progress: Progress, stop: StopRequest
) -> Record:
    """Run one stage in a folder of its own that gets the stage's name only when it has ended."""
    partial, final = folder / f".partial-{stage.id}", folder / stage.id
    for leftover in (partial, final):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    write_json(partial / STAGE, stage.model_dump(mode="json", by_alias=True))

    def moved(phase: str, done: int, total: int) -> None:
        stop.check()
        progress.moved(phase, done, total)

    exit_code = launcher.run(partial / STAGE, moved)
    stop.check()
    record = read_record(partial)
    if record is None:
        record = _record_of_dead(stage, partial, exit_code)
        write_record(partial, record)
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


def _conclude(folder: Path, reports: Path) -> None:
    from harness.report import verdict_lines, write_report
    from harness.summary import summarise

    summary = summarise(folder)
    page = write_report(folder, reports)
    for line in verdict_lines(summary):
        print(line)  # noqa: T201
    print(f"report: {page}")  # noqa: T201
