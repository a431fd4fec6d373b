"""Runs a comparison: every stage that is not done yet, then summary and report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.concurrency import Pair, Tried, is_open, settle
from harness.config import Comparison
from harness.declared import declare
from harness.disk import DiskCheck
from harness.errors import UserError
from harness.events import RunLog, run_log
from harness.forecast.before_run import forecast_before
from harness.hostile import terminal
from harness.interrupts import StopRequest
from harness.keeping import give_up_weights
from harness.lock import run_lock
from harness.nightly import plan_of
from harness.plan import COMPARISON, Plan
from harness.plan_so_far import is_complete
from harness.progress import make_progress
from harness.records import write_json
from harness.reserve import reserve
from harness.reuse import Work, adopt, mark_outdated, work_left
from harness.start_method import make_launcher
from harness.workers import Workers
from pipelines.stages import Stage, TrainSettings


def run_comparison(
    comparison: Comparison,
    *,
    arms: list[str] | None,
    results: Path,
    reports: Path,
    quiet: bool,
    night: str | None = None,
    force: bool = False,
) -> int:
    """Run what is not done yet, then write summary and report and print the verdict.

    Args:
        comparison: The validated config.
        arms: Only these arms; all if None.
        results: Folder below which the comparison has its own.
        reports: Folder that gets the report.
        quiet: Print nothing but the verdict.
        night: The date of a night, whose comparison gets a folder and a report of its own; or None.
        force: Run also where memory will not do by the forecast.

    Returns:
        0 when every stage is done, 1 when some failed or the audit found the comparison unfair.

    Raises:
        UserError: another run holds the results folder, or the folder cannot be written, or disk or memory will not do.
    """
    plan = plan_of(comparison, arms=arms, results=results, night=night)
    folder = results / plan.comparison.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}). Use --results and --reports."
        ) from error
    with run_lock(folder) as died:
        say = _nothing if quiet else _say
        if is_open(comparison):
            with StopRequest() as stop:
                comparison = _settle(comparison, plan, folder, say)
                stop.check()
            plan = plan_of(comparison, arms=arms, results=results, night=night)
        work = work_left(plan, folder)
        disk = DiskCheck(folder)
        disk.require(plan, work.todo)
        with StopRequest() as stop:
            forecast_before(plan, work.todo, folder, arms=arms, force=force, say=say, warn=_warn)
            stop.check()
        disk.require(plan, work.todo)  # the forecast may know the size of a model that is not here yet
        declare(folder, plan, work.elsewhere)
        with (
            reserve(folder),
            run_log(folder, make_progress(quiet=quiet), died) as log,
            StopRequest() as stop,
        ):
            failed: set[str] = set()
            while True:
                write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))
                failed |= _run_stages(plan, work, folder, log, stop, disk, failed)
                if is_complete(plan):
                    break
                # What was found may call for more: a sweep's chosen points, steps that a budget turned into.
                known = plan_of(comparison, arms=arms, results=results, night=night)
                if known.stages == plan.stages:
                    break
                may_refuse = not _trains(
                    plan
                )  # with training stages it was looked at before the first of them
                plan, work = known, work_left(known, folder)
                if may_refuse:
                    disk.require(plan, work.todo)
                forecast_before(
                    plan,
                    work.todo,
                    folder,
                    arms=arms,
                    force=force or not may_refuse,
                    say=log.say,
                    warn=log.say,
                )
        fair = _conclude(folder, reports)
    return 1 if failed or not fair else 0


def _settle(comparison: Comparison, plan: Plan, folder: Path, say: Callable[[str], None]) -> Comparison:
    """Numbers for `threads: auto` and `workers: auto`, measured unless they are known."""

    def measure(plan: Plan, pairs: Sequence[Pair]) -> list[Tried]:
        from harness.forecast.side_by_side import measure_side_by_side

        say(f"measuring what {len(pairs)} ways to share out the processors achieve")
        most = max(workers for _, workers in pairs)
        launcher = make_launcher(comparison.start_method, "cpu", folder, most=most)
        return measure_side_by_side(plan, pairs, results=folder.parent, launcher=launcher)

    found = settle(comparison, plan, folder, measure=measure)
    say(f"threads of a stage: {found.threads}, stages at a time: {found.workers}")
    return found


def _trains(plan: Plan) -> bool:
    return any(isinstance(stage.settings, TrainSettings) for stage in plan.stages)


def _run_stages(
    plan: Plan,
    work: Work,
    folder: Path,
    log: RunLog,
    stop: StopRequest,
    disk: DiskCheck,
    before: set[str],
) -> set[str]:
    """Run the stages; return the ids of those that failed or lack an input.

    Args:
        plan: What to run.
        work: What of it is left.
        folder: The comparison's results folder.
        log: Told what happens.
        stop: Asked between stages.
        disk: Asked before training.
        before: Ids of stages that failed already in this run: they are not tried again.
    """
    log.planned(plan, work)
    mark_outdated(work, folder)
    todo = _take_over(plan, work, folder, log)
    give_up_weights(plan, folder)
    if not todo:
        return set()
    failed = before & {stage.id for stage in todo}
    launcher = make_launcher(plan.comparison.start_method, todo[0].device, folder, most=todo[0].workers)
    with contextlib.closing(launcher):
        Workers(plan, folder, launcher, log, stop, disk, failed=failed).run(todo)
    return failed


def _take_over(plan: Plan, work: Work, folder: Path, log: RunLog) -> list[Stage]:
    """Link what other comparisons have done into `folder`; return the stages to run, in the order of the plan."""
    todo = {stage.id for stage in work.todo}
    for stage in plan.stages:
        if stage.id in work.elsewhere:
            if adopt(work.elsewhere[stage.id], folder):
                log.reused(stage, work.elsewhere[stage.id])
            else:
                todo.add(stage.id)
    return [stage for stage in plan.stages if stage.id in todo]


def _nothing(_: str) -> None:
    """Says nothing."""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {terminal(text)}\n")


def _conclude(folder: Path, reports: Path) -> bool:
    """Write summary and report and print the verdict; whether the audit found the arms treated alike."""
    from harness.report import verdict_lines, write_report
    from harness.summary import summarise
    from harness.verdict import UNFAIR

    summary = summarise(folder)
    page = write_report(folder, reports)
    for line in verdict_lines(summary):
        print(line)  # noqa: T201
    print(f"report: {page}")  # noqa: T201
    return summary.verdict.outcome != UNFAIR
