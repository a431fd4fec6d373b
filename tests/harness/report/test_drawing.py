"""Figures drawn in other processes are those drawn here, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from harness.report import drawing
from harness.report.drawing import drawing_processes, drawn
from harness.report.figures import Curve, Panel, draw_panels
from harness.report.page import Drawn, Figure
from harness.report.palette import look


@pytest.fixture
def figures() -> list[Figure]:
    panel = Panel("loss", look(0), "tokens", "loss", [Curve([0, 1], [2.0, 1.0])])
    stems = ("one", "other", "third")
    return [
        Figure(stem, "", "", partial(draw_panels, [panel] * place, columns=2))
        for place, stem in enumerate(stems, 1)
    ]


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as one with many stages, on a machine with two cores; threads that other tests left do not count."""
    monkeypatch.setattr(drawing, "MANY_STAGES", 1)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    (tmp_path / "stage").mkdir()
    return tmp_path


def end_the_process() -> Drawn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_the_same_bytes_in_other_processes_and_here(many: Path, figures: list[Figure]) -> None:
    with drawing_processes(many) as pool:
        assert pool is not None
        assert pool.submit(os.getpid).result() != os.getpid()
        assert drawn(figures, pool) == drawn(figures, None)


def test_a_killed_process_costs_no_figure(many: Path, figures: list[Figure]) -> None:
    with drawing_processes(many) as pool:
        assert pool is not None
        pool.submit(end_the_process)
        assert drawn(figures, pool).keys() == {"one", "other", "third"}


def test_an_error_in_a_drawing_is_not_hidden(many: Path) -> None:
    with drawing_processes(many) as pool, pytest.raises(ValueError, match="figure size"):
        drawn([Figure("bad", "", "", partial(draw_panels, [], columns=-1))], pool)


def test_few_stages_or_one_core_or_a_thread_are_drawn_here(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MANY_STAGES", 2)
    with drawing_processes(many) as pool:
        assert pool is None
    monkeypatch.setattr(drawing, "MANY_STAGES", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with drawing_processes(many) as pool:
        assert pool is None
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("threading.active_count", lambda: 2)
    with drawing_processes(many) as pool:
        assert pool is None
