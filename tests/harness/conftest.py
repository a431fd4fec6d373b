"""Fixtures of the harness' tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that is wrongly accepted fails its test at once instead of being trained."""

    def accepted(*_: object, **__: object) -> int:
        raise AssertionError("the run went ahead")

    monkeypatch.setattr("harness.run.run_comparison", accepted)
