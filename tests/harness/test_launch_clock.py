"""When a stage's clock begins: imports of the fork server are on no stage's bill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_clock_of_a_stage_begins_once_the_fork_server_has_its_imports(tmp_path: Path) -> None:
    """Of a run that goes on no forecast has warmed the server; a server that was killed imports once more."""
    imported = tmp_path / "imported"
    subprocess.run(
        [sys.executable, "-m", "tests.harness.slow_server", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "IMPORTED": str(imported)},
        check=True,
    )
    began = [float((tmp_path / name).read_text()) for name in ("first", "second")]
    ready = [float(line) for line in imported.read_text().splitlines()]
    assert len(ready) == 2
    assert ready[0] < began[0] < ready[1] < began[1]
