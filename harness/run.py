"""Runs a comparison: every stage that is not done yet, then summary and report."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from harness.attempts import run_stage
from harness.config import Comparison
from harness.errors import UserError
from harness.integrity import is_done
from harness.interrupts import StopRequest
from harness.launch import Launcher
from harness.outlook import stage_label
from harness.plan import COMPARISON, Plan
from harness.planning import make_plan
from harness.progress import Progress, make_progress
from harness.records import write_json

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
        record = run_stage(stage, folder, launcher, progress, stop)
        progress.finished(stage, record)
        if record.status != "done":
            failed.add(stage.id)
    return failed


def _conclude(folder: Path, reports: Path) -> None:
    from harness.report import verdict_lines, write_report
    from harness.summary import summarise

    summary = summarise(folder)
    page = write_report(folder, reports)
    for line in verdict_lines(summary):
        print(line)  # noqa: T201
    print(f"report: {page}")  # noqa: T201
