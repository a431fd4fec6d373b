"""`threads: auto` and `workers: auto`: measured once, kept, shared with comparisons beside, never a reason not to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import concurrency
from harness.concurrency import CONCURRENCY, Pair, Tried, best, candidates, read_choice, settle, settled
from harness.config import Comparison
from harness.forecast import side_by_side
from harness.forecast.side_by_side import measure_side_by_side, most_in_memory, try_out
from harness.launch import Launcher
from harness.nightly import plan_of
from harness.plan import Plan
from harness.planning import make_plan
from pipelines.forecast.request import ForecastAnswer, ForecastRequest, StepTimes
from tests.harness.fixtures_results import Run

BOTH: dict[str, Any] = {"threads": "auto", "workers": "auto", "metering": "relaxed"}


def comparison(**changes: Any) -> Comparison:
    return Run(changes=changes).comparison()


@pytest.mark.parametrize(
    ("changes", "cores", "pairs"),
    [
        (BOTH, 2, [(2, 1), (1, 2)]),
        (BOTH, 6, [(4, 1), (6, 1), (2, 3), (1, 6)]),
        (BOTH, 1, [(1, 1)]),
        (BOTH | {"threads": 2}, 8, [(2, 1), (2, 2), (2, 4)]),
        (BOTH | {"threads": 16}, 8, [(16, 1)]),
        (BOTH | {"workers": 3}, 8, [(1, 3), (2, 3)]),
        (BOTH | {"workers": 9}, 8, [(1, 9)]),
        ({"threads": "auto"}, 4, [(1, 1), (2, 1), (4, 1)]),
    ],
)
def test_what_is_tried_out(changes: dict[str, Any], cores: int, pairs: list[Pair]) -> None:
    assert candidates(comparison(**changes), cores) == pairs


def test_more_stages_at_a_time_must_be_worth_it() -> None:
    alone = Tried(threads=2, workers=1, steps_per_second=10)
    little = Tried(threads=1, workers=2, steps_per_second=10.9)
    much = Tried(threads=1, workers=2, steps_per_second=11.1)
    assert best([alone, little]) == alone
    assert best([alone, much]) == much


class Measures:
    """Says of each pair what it was told to, and counts how often it was asked."""

    def __init__(self, **speeds: float) -> None:
        self.speeds, self.num_asked = speeds, 0

    def __call__(self, plan: Plan, pairs: Sequence[Pair]) -> list[Tried]:
        self.num_asked += 1
        return [
            Tried(threads=threads, workers=workers, steps_per_second=self.speeds[f"x{threads}_{workers}"])
            for threads, workers in pairs
        ]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "usable_cores", lambda: 2)


def settle_in(results: Path, asked: Comparison, measure: concurrency.Measure) -> Comparison:
    folder = results / asked.name
    folder.mkdir(exist_ok=True)
    return settle(asked, make_plan(asked), folder, measure=measure)


def test_a_choice_is_measured_once_and_plans_rest_on_it(tmp_path: Path) -> None:
    asked, measure = comparison(**BOTH), Measures(x2_1=1.0, x1_2=1.5)
    assert settled(asked, tmp_path) == asked
    found = settle_in(tmp_path, asked, measure)
    assert (found.threads, found.workers) == (1, 2)
    assert settle_in(tmp_path, asked, measure) == found
    assert measure.num_asked == 1
    plan = plan_of(asked, arms=None, results=tmp_path, night=None)
    assert {(stage.threads, stage.workers) for stage in plan.stages} == {(1, 2)}
    assert plan.comparison == found
    assert (
        [stage.id for stage in plan.stages]
        == [stage.id for stage in make_plan(comparison(threads=1)).stages]
        != [stage.id for stage in make_plan(comparison(threads=2)).stages]
    )


def test_a_night_and_a_comparison_beside_take_the_same_choice_and_keep_it(tmp_path: Path) -> None:
    asked = comparison(**BOTH)
    settle_in(tmp_path, asked, Measures(x2_1=1.0, x1_2=1.5))
    beside, never = comparison(**BOTH, name="beside", seeds=2), Measures()
    assert settle_in(tmp_path, beside, never).workers == 2
    assert read_choice(tmp_path / "beside") == read_choice(tmp_path / "made-up")
    night = plan_of(asked, arms=None, results=tmp_path, night="2026-11-28")
    assert {stage.workers for stage in night.stages} == {2}


@pytest.mark.parametrize(
    "changes", [{"threads": 1}, {"training": {"effective_batch": 16, "micro_batch": 16, "max_length": 128}}]
)
def test_another_question_is_measured_anew(tmp_path: Path, changes: dict[str, Any]) -> None:
    settle_in(tmp_path, comparison(**BOTH), Measures(x2_1=1.0, x1_2=1.5))
    measure = Measures(x2_1=1.0, x1_2=0.5, x1_1=1.0)
    found = settle_in(tmp_path, comparison(**BOTH | changes), measure)
    assert (measure.num_asked, found.workers) == (1, 1)


def test_a_measurement_that_fails_does_not_stop_the_run(tmp_path: Path) -> None:
    def fails(*_: object) -> list[Tried]:
        raise RuntimeError("the process ended with exit code -9")

    found = settle_in(tmp_path, comparison(**BOTH), fails)
    assert (found.threads, found.workers) == (2, 1)
    choice = read_choice(tmp_path / "made-up")
    assert choice is not None
    assert choice.reason == "it could not be measured: the process ended with exit code -9"


def test_on_a_gpu_one_stage_runs_at_a_time_and_nothing_is_measured(tmp_path: Path) -> None:
    measure = Measures()
    found = settle_in(tmp_path, comparison(**BOTH, device="cuda"), measure)
    assert (measure.num_asked, found.workers) == (0, 1)


def test_a_damaged_choice_is_none(tmp_path: Path) -> None:
    asked = comparison(**BOTH)
    settle_in(tmp_path, asked, Measures(x2_1=1.0, x1_2=1.5))
    (tmp_path / "made-up" / CONCURRENCY).write_text('{"threads": 1')
    assert settled(asked, tmp_path) == asked


@pytest.mark.slow
def test_real_steps_of_every_kind_of_stage_are_timed_with_as_many_processes_as_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "SECONDS", 0.0)
    plan = make_plan(comparison(threads=1))
    tried = measure_side_by_side(
        plan, [(1, 1), (1, 2)], results=tmp_path, launcher=Launcher("forkserver", tmp_path, most=2)
    )
    assert [(one.threads, one.workers) for one in tried] == [(1, 1), (1, 2)]
    assert all(one.steps_per_second > 0 for one in tried)


class Jobs:
    """Made-up jobs and what their processes answer."""

    def __init__(self, plan: Plan) -> None:
        self.asked: list[list[ForecastRequest]] = []
        self.jobs = [_job(stage.settings) for stage in plan.stages if stage.kind in ("sft", "orpo")][:2]

    def ask(self, requests: list[ForecastRequest]) -> list[ForecastAnswer]:
        self.asked.append(requests)
        times = StepTimes(micro_seconds=[0.1, 0.3], optimizer_seconds=[0.1])
        return [ForecastAnswer(calibrations=[times] * len(self.jobs)) for _ in requests]


def _job(settings: Any) -> Any:
    class Load:
        mean_length = 40.0

    class Answer:
        phases = {"forward": {"weights": 3 << 30, "activations": 1 << 30}, "step": {"weights": 2 << 30}}  # noqa: RUF012

    class Job:
        pass

    job = Job()
    job.__dict__ = {"settings": settings, "load": Load, "answer": Answer, "completion_share": 0.5}
    return job


def test_steps_a_second_are_those_of_all_processes_together() -> None:
    made = Jobs(make_plan(comparison()))
    tried = try_out(made.jobs, [(2, 1), (1, 3)], made.ask)
    # Two micro-batches of 0.2 s and an optimizer step of 0.1 s, of two kinds of stage.
    assert [one.steps_per_second for one in tried] == pytest.approx([1.0, 3.0])
    assert [len(requests) for requests in made.asked] == [1, 1, 3]
    steps = {one.num_steps for requests in made.asked[1:] for one in requests[0].calibrations}
    assert steps == {6}  # 5 s of them, and the first


def test_no_more_stages_run_at_a_time_than_memory_holds() -> None:
    jobs = Jobs(make_plan(comparison())).jobs
    assert most_in_memory(jobs, 8 << 30) == 1  # 4 GiB each, the process beside, and the forecast's own error
    assert most_in_memory(jobs, 14 << 30) == 3
    assert most_in_memory(jobs, None) == 1
