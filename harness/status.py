"""What a run is doing, from its events alone: another terminal needs nothing from the run itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import UserError
from harness.events import EVENTS, Event, Move, read_events, read_moves
from harness.hostile import terminal
from harness.lock import is_held, read_holder
from harness.progress import duration


@dataclass
class Situation:
    """Where the last run of a folder stands.

    Attributes:
        todo: Stages that it had to run when it was last planned.
        ended: Stages that have ended since, with how.
        running: The event with which each running stage started, by its id.
        seconds: What stages took, by kind, in every run of the folder.
        last: The last event.
    """

    todo: list[str] = field(default_factory=list)
    num_done: int = 0
    num_stages: int = 0
    ended: dict[str, Event] = field(default_factory=dict)
    running: dict[str, Event] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    started: Event | None = None
    last: Event | None = None

    def seconds_left(self, now: datetime) -> float | None:
        """If each stage takes as long as others of its kind did on average; None where nothing has ended yet.

        As many are taken to run at a time as do now.
        """
        everything = [seconds for kind in self.seconds.values() for seconds in kind]
        if not everything:
            return None
        left = 0.0
        for stage in self.todo:
            if stage in self.ended:
                continue
            of_kind = self.seconds.get(_kind(stage)) or everything
            expected = sum(of_kind) / len(of_kind)
            spent = 0.0
            if stage in self.running:
                spent = (now - datetime.fromisoformat(self.running[stage].time)).total_seconds()
            left += max(expected - spent, 0.0)
        return left / max(1, len(self.running))


def read_situation(folder: Path) -> Situation:
    """Where the last run of a folder stands.

    Raises:
        UserError: no run has left events there.
    """
    found = Situation()
    for event in read_events(folder):
        found.last = event
        if event.event == "run_started":
            found = Situation(seconds=found.seconds, started=event, last=event)
        elif event.event == "planned":
            found.todo, found.ended = list(event.todo or []), {}
            found.num_done, found.num_stages = event.num_done or 0, event.num_stages or 0
        elif event.event == "stage_started":
            found.running[event.stage or ""] = event
        elif event.event in ("stage_finished", "stage_failed", "stage_skipped") and event.stage:
            found.running.pop(event.stage, None)
            found.ended[event.stage] = event
            if event.event == "stage_finished" and event.seconds is not None:
                found.seconds.setdefault(_kind(event.stage), []).append(event.seconds)
    if found.last is None:
        raise UserError(f"{folder}: must be a folder in which `prefduel run` worked, it has no {EVENTS}.")
    return found


def status_lines(folder: Path) -> Iterator[str]:
    """What a person wants to know of a run, a line each; the first says whether it goes on.

    Raises:
        UserError: no run has left events there.
    """
    now = datetime.now(UTC)
    running = is_held(folder)
    found = Situation() if running and not (folder / EVENTS).is_file() else read_situation(folder)
    yield terminal(f"{folder}: {_state(folder, found, running=running)}")
    if running and (found.num_stages == 0 or (found.last is not None and found.last.event == "run_ended")):
        yield "preparing: what there is to do is not planned yet"
        return
    failed = [event for event in found.ended.values() if event.event != "stage_finished"]
    finished = found.num_done + len(found.ended) - len(failed)
    yield f"{finished} of {found.num_stages} stages done" + (
        f", {len(failed)} failed or not run" if failed else ""
    )
    for event in failed:
        yield terminal(f"  {event.label} ({event.stage}): {event.status or 'not run'}: {event.message or ''}")
    if running:
        moves = read_moves(folder)
        for stage, event in found.running.items():
            since = (now - datetime.fromisoformat(event.time)).total_seconds()
            yield terminal(f"now: {event.label} ({stage}), since {duration(since)}{_move(moves.get(stage))}")
    left = found.seconds_left(now)
    if running and left is not None:
        yield f"about {duration(left)} left"


def _state(folder: Path, found: Situation, *, running: bool) -> str:
    if running:
        holder = read_holder(folder)
        return f"running, pid {holder.pid}, since {holder.since}" if holder else "running"
    assert found.last is not None
    if found.last.event == "run_ended":
        return f"the last run ended at {found.last.time}: {found.last.status}"
    return f"the last run died after {found.last.time}; the same command goes on where it was"


def _move(move: Move | None) -> str:
    if move is None:
        return ""
    return f", {move.phase}" + (f" {move.done}/{move.total}" if move.total else "")


def _kind(stage_id: str) -> str:
    return stage_id.rpartition("-")[0]
