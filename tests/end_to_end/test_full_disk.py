"""The results' disk fills in the middle of a run: one line a stage, a report, and nothing that was done is done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.small import prefduel, records, start_run, started
from tests.end_to_end.test_kills import EVERY_STEP, copy_inputs, outcomes, wait_for_stage
from tests.small_disk import fill, small_disk


@pytest.mark.slow
def test_a_disk_that_fills_costs_no_stage_that_was_done_and_there_is_a_report(
    done: Path, tmp_path: Path
) -> None:
    copy_inputs(done, tmp_path, save_every_minutes=EVERY_STEP)
    with small_disk(tmp_path / "results", mebibytes=16) as disk:
        process = start_run(tmp_path)
        wait_for_stage(process, tmp_path, "orpo")
        before = started(tmp_path)
        filler = fill(disk)
        _, errors = process.communicate()
        assert process.returncode == 1, errors
        assert not errors
        assert {name: started(tmp_path)[name] for name in before} == before
        failed = {name: record for name, record in records(tmp_path).items() if record["status"] != "done"}
        assert failed
        assert {record["status"] for record in failed.values()} == {"disk_full"}
        assert all("Free space" in record["failure"]["advice"] for record in failed.values())
        assert "disk full" in (tmp_path / "reports/small.md").read_text().replace("_", " ")
        filler.unlink()
        assert prefduel("run", "small.yaml", cwd=tmp_path).returncode == 0
        assert {name: started(tmp_path)[name] for name in before} == before
        assert outcomes(tmp_path) == outcomes(done)
