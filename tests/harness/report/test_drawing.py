"""Figures drawn by helpers are those drawn here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from harness import helpers
from harness.helpers import NOBODY, helpers_for
from harness.report.drawing import drawn, prepare_drawing
from harness.report.figures import Curve, Panel, draw_panels
from harness.report.page import Figure
from harness.report.palette import look


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that has helpers; threads that other tests left do not count."""
    monkeypatch.setattr(helpers, "MANY_STAGES", 0)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return tmp_path


def test_the_same_bytes_in_the_same_order_by_helpers_and_here(folder: Path) -> None:
    panel = Panel("loss", look(0), "tokens", "loss", [Curve([0, 1], [2.0, 1.0])])
    figures = [
        Figure(stem, "", "", partial(draw_panels, [panel] * place, columns=2))
        for place, stem in enumerate(("one", "other", "third"), 1)
    ]
    with helpers_for(folder) as helping:
        prepare_drawing(helping)
        there = drawn(figures, helping)
    assert list(there.items()) == list(drawn(figures, NOBODY).items())


def test_an_error_in_a_drawing_is_not_hidden(folder: Path) -> None:
    with helpers_for(folder) as helping, pytest.raises(ValueError, match="figure size"):
        drawn([Figure("bad", "", "", partial(draw_panels, [], columns=-1))], helping)
