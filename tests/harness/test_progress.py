"""What a person sees while a comparison runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.progress import Bar, Lines, duration, ending
from harness.records import Failure, Machine, Record
from pipelines.stages import PretrainSettings, Stage

STAGE = Stage(
    id="pretrain-000000000000",
    settings=PretrainSettings(kind="pretrain"),
    seed=0,
    threads=1,
    device="cpu",
)


def record(status: str) -> Record:
    machine = Machine(
        processor="x",
        num_cores=1,
        memory_bytes=1,
        accelerator=None,
        accelerator_memory_bytes=None,
        driver=None,
    )
    failure = None if status == "done" else Failure(message="no [red]space[/red]", evidence="")
    return Record(
        stage=STAGE,
        status=status,
        outcome=None,
        failure=failure,
        cost=None,
        machine=machine,
        versions={},
        git_commit=None,
        started_at="",
    )


@pytest.mark.parametrize("width", [10, 20, 80, 200])
def test_the_bar_lives_through_a_run_in_a_terminal_of_any_width(width: int) -> None:
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=width))
    bar.message("2 stages, 0 already done")
    for number in (1, 2):
        bar.started(STAGE, "orpo seed 0: train orpo", number, 2)
        bar.moved(STAGE, "train", 0, 0)
        bar.moved(STAGE, "train", 3, 10)
        bar.finished(STAGE, record("done" if number == 1 else "failed"))
    bar.close()
    assert "no [red]space[/red]" in screen.getvalue().replace("\n", "") or width < 40


def test_the_bar_tells_how_long_still_once_a_stage_has_finished() -> None:
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=200))
    bar.started(STAGE, "first", 1, 3)
    bar.finished(STAGE, record("done"))
    bar.started(STAGE, "second", 2, 3)
    bar.close()
    assert "left" in screen.getvalue()


def test_stages_at_the_same_time_have_their_own_lines() -> None:
    written: list[str] = []
    other = STAGE.model_copy(update={"id": "pretrain-000000000001"})
    screen = io.StringIO()
    for display in (Lines(written.append), Bar(Console(file=screen, force_terminal=True, width=200))):
        display.started(STAGE, "first", 1, 2)
        display.started(other, "second", 2, 2)
        display.moved(other, "train", 3, 10)
        display.finished(STAGE, record("done"))
        display.finished(other.model_copy(), record("failed"))
        display.close()
    assert [line.split(" ", 1)[1].split(":")[0].strip() for line in written] == [
        "[1/2] first (pretrain-000000000000) starts",
        "[2/2] second (pretrain-000000000001) starts",
        "[1/2] first (pretrain-000000000000) done",
        "[2/2] second (pretrain-000000000001) failed",
    ]
    assert all(line in screen.getvalue() for line in ("1/2 first", "2/2 second"))


def test_without_a_terminal_each_stage_has_a_line_when_it_starts_and_when_it_ends() -> None:
    written: list[str] = []
    lines = Lines(written.append)
    lines.started(STAGE, "orpo seed 0: train orpo", 1, 2)
    lines.moved(STAGE, "train", 3, 10)
    lines.finished(STAGE, record("done"))
    assert [line.split(" ", 1)[1] for line in written] == [
        "[1/2] orpo seed 0: train orpo (pretrain-000000000000) starts\n",
        "[1/2] orpo seed 0: train orpo (pretrain-000000000000) done\n",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.23, "4.2 s"), (59.9, "59.9 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_stage_that_failed_says_why() -> None:
    assert ending(record("out_of_memory")) == "out of memory: no [red]space[/red]."
