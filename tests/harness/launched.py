"""A launcher's stages, waited for one at a time."""

from __future__ import annotations

from pathlib import Path

from harness.attempts import Attempts, Pause
from harness.launch import UNLIMITED, Ending, Launcher, Report
from harness.records import Record
from pipelines.stages import Limits


def run_alone(
    launcher: Launcher,
    stage_file: Path,
    report: Report = lambda *_: None,
    limits: Limits = UNLIMITED,
    *,
    holds: str | None = None,
) -> Ending:
    """Start a stage and wait until it has ended; upon an interrupt the launcher is closed, as a run does it."""
    running = launcher.start(stage_file, report, limits, holds=holds)
    try:
        found = launcher.wait([running])
    except KeyboardInterrupt:
        launcher.close()
        raise
    assert found is not None
    assert found[0] is running
    return found[1]


def to_its_record(attempts: Attempts, launcher: Launcher) -> Record:
    """Make all attempts, without the pauses between them."""
    ending: Ending | None = None
    try:
        while True:
            awaited = attempts.send(ending)
            ending = None
            if not isinstance(awaited, Pause):
                found = launcher.wait([awaited])
                assert found is not None
                ending = found[1]
    except StopIteration as ended:
        record: Record = ended.value
        return record
