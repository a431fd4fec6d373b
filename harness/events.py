"""What happened when: one JSON line an event in `events.jsonl`, synced, for `prefduel status` and for other programs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from harness.lock import Holder
from harness.outlook import stage_label
from harness.plan import Plan
from harness.progress import Progress
from harness.records import Record, append_line
from harness.reserve import with_room
from harness.reuse import Work
from pipelines.stages import Stage, Strict

EVENTS = "events.jsonl"
MOVES = ".progress.json"  # how far each running stage is: written often, so neither synced nor kept
SECONDS_BETWEEN_MOVES = 1.0

Kind = Literal[
    "run_started", "planned", "stage_reused", "stage_started", "stage_finished", "stage_retried", "stage_failed",
    "stage_skipped", "run_ended",
]  # fmt: skip

Ending = Literal["done", "failed", "interrupted", "broken"]


class Event(Strict):
    """One line of `events.jsonl`; what does not apply to its kind is left out there."""

    time: str = Field(description="UTC, ISO 8601.")
    event: Kind
    stage: str | None = None
    label: str | None = Field(None, description="What the stage does, and for which trial first.")
    status: str | None = Field(None, description="How a stage, or the run, ended.")
    seconds: float | None = Field(
        None,
        description="What a stage took that has ended: its record's `total_seconds`; without these, since `stage_started`.",
    )
    message: str | None = None
    num_stages: int | None = Field(None, description="planned: distinct stages of the plan.")
    num_done: int | None = Field(None, description="planned: stages that need not run.")
    todo: list[str] | None = Field(None, description="planned: ids of the stages to run, in order.")


class Move(Strict):
    """How far a running stage is."""

    phase: str
    done: int
    total: int = Field(description="0 where the phase has no units.")


class RunLog:
    """Told everything that a run does; writes it to the folder's events and shows it to the person.

    Args:
        folder: The comparison's results folder.
        display: What the person sees.
    """

    def __init__(self, folder: Path, display: Progress) -> None:
        self._folder, self._display = folder, display
        self._labels: dict[str, str] = {}
        self._total = 0
        self._number = 0
        self._started_at: dict[str, float] = {}  # of the stages that run
        self._moves: dict[str, Move] = {}
        self._moved_at = 0.0
        self._any_failed = False

    @property
    def ending(self) -> Ending:
        """How a run ends that went through all its stages."""
        return "failed" if self._any_failed else "done"

    def run_started(self, message: str | None = None) -> None:
        """The run begins; `message` is what a person should know of the one before."""
        self._write("run_started", message=message)
        if message:
            self._display.message(message)

    def say(self, text: str) -> None:
        """A line for the person, kept nowhere."""
        self._display.message(text)

    def planned(self, plan: Plan, work: Work) -> None:
        """It is known what there is to do."""
        self._labels |= {stage.id: stage_label(plan, stage) for stage in plan.stages}
        self._number, self._total = 0, len(work.todo)
        num_done = len(plan.stages) - len(work.todo)
        self._write(
            "planned", num_stages=len(plan.stages), num_done=num_done, todo=[stage.id for stage in work.todo]
        )
        elsewhere = f", {len(work.elsewhere)} of them in other comparisons" if work.elsewhere else ""
        self._display.message(f"{len(plan.stages)} stages, {num_done} already done{elsewhere}")

    def reused(self, stage: Stage, source: Path) -> None:
        """A stage was taken over from the comparison that `source` belongs to."""
        self._write("stage_reused", stage, message=f"from {source.parent.name}")

    def started(self, stage: Stage) -> None:
        """A stage starts."""
        self._number += 1
        self._started_at[stage.id] = time.monotonic()
        self._write("stage_started", stage)
        self._display.started(stage, self._labels[stage.id], self._number, self._total)

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        """A running stage is in `phase`, `done` of `total` units are finished."""
        self._moves[stage.id] = Move(phase=phase, done=done, total=total)
        now = time.monotonic()
        if now - self._moved_at >= SECONDS_BETWEEN_MOVES:
            self._moved_at = now
            self._write_moves()
        self._display.moved(stage, phase, done, total)

    def retried(self, stage: Stage, record: Record) -> None:
        """An attempt at a stage failed in a way that may pass, and there will be another."""
        reason = record.failure.message if record.failure else None
        self._write("stage_retried", stage, status=record.status, message=reason)
        of = f"attempt {record.num_attempts} of {stage.limits.retries + 1}"
        self._display.message(
            f"{self._labels[stage.id]} ({stage.id}) {record.status}, {of}: {reason}. Trying again"
        )

    def finished(self, stage: Stage, record: Record) -> None:
        """A stage has left a record."""
        self._any_failed |= record.status != "done"
        # The first stage of a run that goes on is waited for until the fork server is there: no time of its own.
        since_started = time.monotonic() - self._started_at.pop(stage.id)
        self._write(
            "stage_finished" if record.status == "done" else "stage_failed",
            stage,
            status=record.status,
            seconds=since_started if record.cost is None else record.cost.total_seconds,
            message=record.failure.message if record.failure else None,
        )
        self._moves.pop(stage.id, None)
        self._write_moves()
        self._display.finished(stage, record)

    def skipped(self, stage: Stage, reason: str) -> None:
        """A stage cannot run."""
        self._any_failed = True
        self._number += 1
        self._write("stage_skipped", stage, message=reason)
        place = f"[{self._number}/{self._total}]"
        self._display.message(f"{place} {self._labels[stage.id]} ({stage.id}) not run: {reason}")

    def run_ended(self, status: Ending) -> None:
        """The run ends: all done, some failed, stopped by the person, or by an error of ours or the machine's."""
        (self._folder / MOVES).unlink(missing_ok=True)
        self._write("run_ended", status=status)
        self._display.close()

    def _write_moves(self) -> None:
        if not self._moves:
            (self._folder / MOVES).unlink(missing_ok=True)
            return
        content = json.dumps({stage_id: move.model_dump() for stage_id, move in self._moves.items()})
        partial = self._folder / f"{MOVES}.partial"
        with contextlib.suppress(OSError):  # a full disk: not worth a stage
            partial.write_text(content, encoding="utf-8")
            partial.replace(self._folder / MOVES)

    def _write(self, event: Kind, stage: Stage | None = None, **more: Any) -> None:
        if stage is not None:
            more |= {"stage": stage.id, "label": self._labels.get(stage.id)}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = Event(time=now, event=event, **more).model_dump(exclude_none=True)
        line = json.dumps(content, ensure_ascii=False)
        with_room(self._folder, lambda: append_line(self._folder / EVENTS, line))


@contextmanager
def run_log(folder: Path, display: Progress, died: Holder | None) -> Iterator[RunLog]:
    """The log of one run, its beginning and end written.

    Args:
        folder: The comparison's results folder.
        display: What the person sees.
        died: The run before this one, if it ended without a word.
    """
    log = RunLog(folder, display)
    # Without its host: what lies in a results folder names no machine.
    told = (
        f"the run before (pid {died.pid}, since {died.since}) died; going on where it was" if died else None
    )
    log.run_started(told)
    status: Ending = "broken"
    try:
        yield log
        status = log.ending
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        log.run_ended(status)


def read_moves(folder: Path) -> dict[str, Move]:
    """How far each stage is that runs now, by its id; nothing where that cannot be read."""
    try:
        content = from_json((folder / MOVES).read_bytes())
        return {stage_id: Move.model_validate(move) for stage_id, move in content.items()}
    except (OSError, ValueError, AttributeError):  # pydantic's is a ValueError
        return {}


def read_events(folder: Path) -> Iterator[Event]:
    """The events of all runs in a folder, oldest first. A line that a kill cut off is passed over."""
    path = folder / EVENTS
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield Event.model_validate_json(line)
            except ValidationError:
                continue
