"""Fixtures of the harness' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_disk import small_disk as mounted


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that is wrongly accepted fails its test at once instead of being trained."""

    def accepted(*_: object, **__: object) -> int:
        raise AssertionError("the run went ahead")

    monkeypatch.setattr("harness.run.run_comparison", accepted)


@pytest.fixture
def has_every_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is trained, a config with the stock trainer is as good without TRL's experimental package."""
    monkeypatch.setattr("harness.requirements.has_stock_orpo", lambda: True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    with mounted(tmp_path / "disk", mebibytes=12) as place:
        yield place
