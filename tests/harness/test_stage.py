"""What a stage's process does around the work, with work that is faked."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness import stage
from harness.evaluation.loaded import Loaded
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import Observer
from tests.harness.test_meters import FakeClock, meter
from tests.pipelines.training import tiny

OUTCOME = EvaluateOutcome(group="preference", means={}, num_items={})


def test_hashing_what_a_stage_leaves_is_part_of_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(100.0)

    def fake_work(_stage: Any, _folder: Any, observer: Observer, _loaded: Any) -> EvaluateOutcome:
        with observer.phase("save"):
            clock.now += 2
        return OUTCOME

    def fake_hashes(*_: Any) -> dict[str, str]:
        clock.now += 7
        return {"model/weights": "hash"}

    monkeypatch.setattr(stage, "_run", fake_work)
    monkeypatch.setattr(stage, "hashes_of_files", fake_hashes)
    metered = meter(clock)
    found = stage._run_to_its_products(tiny.stage("sft"), tmp_path, metered, Loaded())
    assert found == (OUTCOME, {"model/weights": "hash"})
    cost = metered.cost()
    assert {phase.name: phase.seconds for phase in cost.phases if phase.seconds} == {"save": 9}
    assert cost.total_seconds == 9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_a_finalizer_swallows_ends_the_stage_at_its_next_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    class Launcher:
        def recv(self) -> tuple[str, float]:
            return str(tmp_path / stage.STAGE), 0.0

        def send(self, message: object) -> None:
            raise AssertionError(message)

    def swallowing(_file: Path, *, report: stage.Report, **_: Any) -> None:
        Finalized()
        report("train", 1, 2)

    monkeypatch.setattr(stage, "end_with_parent", lambda: None)
    monkeypatch.setattr(stage, "run_file", swallowing)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stage.run_stages(Launcher())  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) == before
