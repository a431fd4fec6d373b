"""The small comparison, run once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.small import make_config, prefduel


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small comparison has run once."""
    root = tmp_path_factory.mktemp("comparison")
    make_config(root)
    ran = prefduel("run", "small.yaml", cwd=root)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return root
