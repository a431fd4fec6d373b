"""What a person sees while a comparison runs: what, how far, how long still."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from harness.records import Record
from pipelines.stages import Stage

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """Told what the run does."""

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Stage `number` of `total` starts."""

    def moved(self, phase: str, done: int, total: int) -> None:
        """The running stage is in `phase`, `done` of `total` units are finished."""

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

    def moved(self, phase: str, done: int, total: int) -> None:
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
        self._label = ""
        self._position = ""

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Say what starts."""
        self._label, self._position = label, f"[{number}/{total}]"
        self.message(f"{self._position} {label} ({stage.id}) starts")

    def moved(self, phase: str, done: int, total: int) -> None:
        """Too much for a log."""

    def finished(self, stage: Stage, record: Record) -> None:
        """Say how it ended."""
        self.message(f"{self._position} {self._label} ({stage.id}) {ending(record)}")

    def message(self, text: str) -> None:
        """One line with the time of day."""
        self._write(f"{datetime.now().astimezone():%H:%M:%S} {text}\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is open."""


class Bar:
    """One line in a terminal that shows the running stage; finished stages scroll up.

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
        self._task = self._bar.add_task("", total=None, position="", detail="", left="")
        self._bar.start()
        self._seconds: list[float] = []
        self._started_at = 0.0
        self._stages_left = 0
        self._label = ""

    def started(self, stage: Stage, label: str, number: int, total: int) -> None:
        """Show what runs."""
        self._label, self._started_at = label, time.monotonic()
        self._stages_left = total - number + 1
        # A reset replaces all fields and draws at once.
        self._bar.reset(
            self._task,
            total=None,
            description=label,
            position=f"{number}/{total}",
            detail="start",
            left=self._left(),
        )

    def moved(self, phase: str, done: int, total: int) -> None:
        """Show how far the stage is."""
        detail = f"{phase} {done}/{total}" if total else phase
        self._bar.update(self._task, completed=done, total=total or None, detail=detail)

    def finished(self, stage: Stage, record: Record) -> None:
        """Leave a line."""
        self._seconds.append(time.monotonic() - self._started_at)
        self.message(f"{self._label}: {ending(record)}")

    def message(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.update(self._task, visible=False)
        self._bar.stop()

    def _left(self) -> str:
        """Time left if the remaining stages take as long as the ones before did on average."""
        if not self._seconds:
            return ""
        return f"about {duration(self._stages_left * sum(self._seconds) / len(self._seconds))} left"


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
