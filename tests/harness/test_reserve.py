"""A disk that is full to the last byte: records and events still get their place, from what was held back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from harness.events import EVENTS, read_events, run_log
from harness.progress import Quiet
from harness.records import Record, read_record, write_record
from harness.reserve import RESERVE, RESERVE_BYTES, hold, reserve, with_room
from tests.harness.fixtures_results import Run, make_results
from tests.small_disk import fill


def some_record(root: Path) -> Record:
    folder = make_results(root, Run(seeds=1))
    return next(filter(None, (read_record(path) for path in sorted(folder.iterdir()))))


def test_what_is_held_back_is_there_while_the_run_is_and_gone_after(tmp_path: Path) -> None:
    with reserve(tmp_path):
        assert (tmp_path / RESERVE).stat().st_size == RESERVE_BYTES
        (tmp_path / RESERVE).write_bytes(b"cut")
        hold(tmp_path)
        assert (tmp_path / RESERVE).stat().st_size == RESERVE_BYTES
    assert not (tmp_path / RESERVE).exists()


def test_another_failure_than_a_full_disk_does_not_spend_it(tmp_path: Path) -> None:
    def refused() -> None:
        raise OSError(errno.EIO, "broken disk")

    with reserve(tmp_path):
        with pytest.raises(OSError, match="broken disk"):
            with_room(tmp_path, refused)
        assert (tmp_path / RESERVE).exists()


def test_a_record_and_an_event_find_their_place_on_a_disk_that_is_full_to_the_last_byte(
    small_disk: Path,
) -> None:
    record = some_record(small_disk.parent / "elsewhere")
    stage = small_disk / record.stage.id
    stage.mkdir()
    with run_log(small_disk, Quiet(), None), reserve(small_disk):
        fill(small_disk)
        write_record(stage, record)
    assert read_record(stage) == record
    assert [event.event for event in read_events(small_disk)] == ["run_started", "run_ended"]


def test_without_what_was_held_back_the_old_record_stays_and_the_reason_is_the_disk(small_disk: Path) -> None:
    record = some_record(small_disk.parent / "elsewhere")
    stage = small_disk / record.stage.id
    stage.mkdir()
    write_record(stage, record)
    fill(small_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        write_record(stage, record.model_copy(update={"num_attempts": 2}))
    assert raised.value.errno == errno.ENOSPC
    assert read_record(stage) == record


def test_an_event_that_a_full_disk_cut_is_passed_over_and_the_next_is_a_line_of_its_own(
    small_disk: Path,
) -> None:
    with run_log(small_disk, Quiet(), None), reserve(small_disk):
        events = small_disk / EVENTS
        size = (
            4096 - events.stat().st_size % 4096 - 40
        )  # the block that the file has keeps room for half a line
        events.write_bytes(events.read_bytes() + b"x" * (size - 1) + b"\n")
        fill(small_disk)
    assert [event.event for event in read_events(small_disk)] == ["run_started", "run_ended"]
