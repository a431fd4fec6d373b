"""Fixtures of the harness' tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that is wrongly accepted fails its test at once instead of being trained."""

    def accepted(*_: object, **__: object) -> int:
        raise AssertionError("the run went ahead")

    monkeypatch.setattr("harness.run.run_comparison", accepted)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
