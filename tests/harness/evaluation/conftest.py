"""Fixtures of the evaluations' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.benchmark_tasks import DATA_FOLDER_VARIABLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local tasks of lm-eval, and a cache of data sets of their own."""
    from tests.harness.evaluation import tiny_tasks

    monkeypatch.delenv(DATA_FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    tiny_tasks.write_tasks(tmp_path)
    return tmp_path
