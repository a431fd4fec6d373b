"""What a person sees while a comparison runs: what, how far, how long still."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from harness.records import Record
from pipelines.stages import Stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class Progress(Protocol):
    """Told what the run does."""

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Stage `number` of `total` starts."""

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        """A running stage is in `phase`, `done` of `total` units are finished."""

    def finished(self, stage: Stage, record: Record) -> None:
        """The stage has left a record."""

    def message(self, text: str) -> None:
        """A line for the person."""

    def close(self) -> None:
        """Nothing more comes."""


class Quiet:
    """Says nothing."""

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Nothing."""

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        """Nothing."""

    def finished(self, stage: Stage, record: Record) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """A timestamped line when a stage starts and ends: for logs, and wherever there is no terminal."""

    def __init__(self, write: Callable[[str], object] = sys.stdout.write) -> None:
        self._write = write
        self._running: dict[str, str] = {}  # stage id to what its lines begin with

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Say what starts."""
        self._running[stage.id] = f"[{number}/{total}] {label} ({stage.id})"
        self.message(f"{self._running[stage.id]} starts")

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        """Too much for a log."""

    def finished(self, stage: Stage, record: Record) -> None:
        """Say how it ended."""
        self.message(f"{self._running.pop(stage.id)} {ending(record)}")

    def message(self, text: str) -> None:
        """One line with the time of day."""
        self._write(f"{datetime.now().astimezone():%H:%M:%S} {text}\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class _Line:
    """A running stage in a terminal."""

    task: TaskID
    label: str
    started_at: float


class Bar:
    """A line in a terminal for each running stage; finished stages scroll up.

    Args:
        console: Where to draw; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.fields[position]}"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._bar.start()
        self._seconds: list[float] = []
        self._running: dict[str, _Line] = {}

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Show what runs."""
        task = self._bar.add_task(
            label, total=None, position=f"{number}/{total}", detail="start", left=self._left(total - number)
        )
        self._running[stage.id] = _Line(task, label, time.monotonic())

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        """Show how far the stage is."""
        detail = f"{phase} {done}/{total}" if total else phase
        self._bar.update(self._running[stage.id].task, completed=done, total=total or None, detail=detail)

    def finished(self, stage: Stage, record: Record) -> None:
        """Leave a line."""
        line = self._running.pop(stage.id)
        self._bar.remove_task(line.task)
        self._seconds.append(time.monotonic() - line.started_at)
        self.message(f"{line.label}: {ending(record)}")

    def message(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the lines away."""
        for line in self._running.values():
            self._bar.remove_task(line.task)
        self._bar.stop()

    def _left(self, num_later: int) -> str:
        """Time left, at the start of a stage that `num_later` follow, if stages take as long as those before did on average."""
        if not self._seconds:
            return ""
        mean = sum(self._seconds) / len(self._seconds)
        at_once = len(self._running) + 1
        return f"about {duration((num_later + at_once) * mean / at_once)} left"


def make_progress(*, quiet: bool) -> Progress:
    """The display that fits where standard output goes."""
    if quiet:
        return Quiet()
    return Bar() if sys.stdout.isatty() else Lines()


def ending(record: Record) -> str:
    """How a stage ended, in a few words."""
    if record.status == "done":
        return f"done in {duration(record.cost.total_seconds)}" if record.cost else "done"
    failure = record.failure
    told = f"{failure.message.rstrip('.')}. {failure.advice}".strip() if failure else "no reason known"
    return f"{record.status.replace('_', ' ')}: {told}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
