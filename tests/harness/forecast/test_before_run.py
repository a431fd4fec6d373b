"""Before a run: a forecast is made once for what is left, kept, and held against free memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.forecast.before_run import forecast_ahead, forecast_before
from harness.forecast.history import read_forecast
from harness.forecast.schema import Forecast
from harness.plan import Plan
from harness.planning import make_plan
from pipelines.stages import TrainSettings
from tests.harness.fixtures_results import Run
from tests.harness.forecast.made_up import MIB, forecast

PEAK = 400 * MIB


@dataclass
class FakeMaker:
    """Makes forecasts of one peak, and counts them."""

    peak: int = PEAK
    made: int = 0
    fails: Exception | None = None
    plans: list[Plan] = field(default_factory=list)

    def __call__(self, plan: Plan, folder: Path, arms: list[str] | None) -> Forecast:
        self.made += 1
        self.plans.append(plan)
        if self.fails:
            raise self.fails
        return forecast(plan, peak=self.peak)


@dataclass
class Told:
    """What a person was told."""

    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def plan_of(seeds: int = 1, **changes: Any) -> Plan:
    return make_plan(Run(seeds=seeds, changes=changes).comparison())


def before(
    plan: Plan, folder: Path, make: FakeMaker, *, free: int | None = 8 * PEAK, force: bool = False
) -> Told:
    told = Told()
    forecast_before(
        plan,
        plan.stages,
        folder,
        arms=None,
        force=force,
        say=told.said.append,
        warn=told.warned.append,
        make=make,
        free=lambda _: free,
    )
    return told


def planned(folder: Path) -> dict[str, int]:
    kept = read_forecast(folder)
    assert kept is not None
    return {one.id: one.peak_memory_bytes for one in kept.planned}


def training(plan: Plan) -> set[str]:
    return {stage.id for stage in plan.stages if stage.kind in ("sft", "dpo", "orpo")}


def test_every_training_stage_that_is_left_is_forecast_once(tmp_path: Path) -> None:
    plan, make = plan_of(), FakeMaker()
    told = before(plan, tmp_path, make)
    assert set(planned(tmp_path)) == training(plan)
    assert told.warned == []
    (line,) = told.said
    assert line.startswith("forecast: peak 400 MiB")
    assert before(plan, tmp_path, make) == Told()
    assert make.made == 1


def test_where_nothing_is_left_to_train_nothing_is_forecast(tmp_path: Path) -> None:
    make = FakeMaker()
    told = before_evaluations(
        plan_of(evaluations={"preference": {}, "generation": {}}), tmp_path, make, "evaluate"
    )
    assert (make.made, told) == (0, Told())
    assert not list(tmp_path.iterdir())


def before_evaluations(plan: Plan, folder: Path, make: FakeMaker, kind: str) -> Told:
    told = Told()
    left = [stage for stage in plan.stages if stage.kind == kind]
    forecast_before(
        plan, left, folder, arms=None, force=False, say=told.said.append, warn=told.warned.append, make=make
    )
    return told


def test_benchmarks_of_models_that_are_trained_are_forecast_without_what_is_done(tmp_path: Path) -> None:
    plan = plan_of(evaluations={"generation": {}, "benchmarks": {"tasks": ["hellaswag"]}})
    make = FakeMaker()
    told = before_evaluations(plan, tmp_path, make, "evaluate")
    assert told.warned == []
    (line,) = told.said
    assert line.startswith("forecast: evaluation ")
    assert not list(tmp_path.iterdir())
    (asked,) = make.plans
    assert {stage.kind for stage in asked.stages} == {"data", "sft", "dpo", "orpo", "evaluate"}
    looks = [one.settings.eval_every for one in asked.stages if isinstance(one.settings, TrainSettings)]
    assert set(looks) == {None}
    failed = before_evaluations(plan, tmp_path, FakeMaker(fails=RuntimeError("no shape")), "evaluate")
    assert failed.warned == ["no forecast: no shape"]


def test_more_seeds_get_a_forecast_of_their_own_and_the_first_one_of_a_stage_stays(tmp_path: Path) -> None:
    before(plan_of(1), tmp_path, FakeMaker())
    more = plan_of(2)
    before(more, tmp_path, FakeMaker(peak=2 * PEAK))
    found = planned(tmp_path)
    assert {found[stage] for stage in training(plan_of(1))} == {PEAK}
    assert {found[stage] for stage in training(more) - training(plan_of(1))} == {2 * PEAK}


def test_a_forecast_that_fails_is_one_line_and_stops_nothing(tmp_path: Path) -> None:
    told = before(plan_of(), tmp_path, FakeMaker(fails=RuntimeError("the process\nended")))
    assert told == Told(warned=["no forecast: the process ended"])
    assert read_forecast(tmp_path) is None


def test_a_damaged_forecast_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "forecast.json").write_text("{")
    before(plan_of(), tmp_path, FakeMaker())
    assert set(planned(tmp_path)) == training(plan_of())


def test_what_free_memory_holds_is_not_spoken_of(tmp_path: Path) -> None:
    assert before(plan_of(), tmp_path, FakeMaker(), free=PEAK).warned == []
    assert before(plan_of(), tmp_path, FakeMaker(), free=None).warned == []


def test_within_its_error_the_forecast_warns(tmp_path: Path) -> None:
    """400 MiB, of which a tenth may be wrong: 361 may do."""
    (line,) = before(plan_of(), tmp_path, FakeMaker(), free=361 * MIB).warned
    assert line.startswith("memory: the forecast is 400 MiB (+-10%) for ")
    assert "361 MiB are free" in line


def test_beyond_its_error_it_refuses_unless_forced(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"400 MiB \(\+-10%\).*359 MiB are free.*--force") as refused:
        before(plan_of(), tmp_path, FakeMaker(), free=359 * MIB)
    assert len(str(refused.value).splitlines()) == 1
    # The second time it is read, not made.
    make = FakeMaker()
    (line,) = before(plan_of(), tmp_path, make, free=359 * MIB, force=True).warned
    assert "359 MiB are free" in line
    assert make.made == 0


def test_several_stages_at_a_time_need_the_memory_of_several(tmp_path: Path) -> None:
    plan = plan_of(workers=3, metering="relaxed")
    assert before(plan, tmp_path, FakeMaker(), free=3 * PEAK).warned == []
    with pytest.raises(UserError, match=r"1\.17 GiB \(.*for 3 times .*or use fewer workers, a smaller"):
        before(plan, tmp_path, FakeMaker(), free=2 * PEAK)


def test_plan_shows_the_forecast_that_a_run_left_and_none_where_all_is_done(tmp_path: Path) -> None:
    plan = plan_of()
    before(plan, tmp_path, FakeMaker())
    lines = list(forecast_ahead(plan, training(plan), tmp_path, arms=None))
    assert lines[0] == "made-up: a forecast, before anything has run"
    assert any(line.split()[:3] == ["orpo", "400", "MiB"] for line in lines)
    assert list(forecast_ahead(plan, set(), tmp_path, arms=None)) == []


def test_what_waits_for_its_budget_is_held_against_memory_before_it_has_an_id(tmp_path: Path) -> None:
    """Only the data stage is planned; the forecast is of the arms as they would be without the budget."""
    whole = plan_of()
    waiting = whole.model_copy(
        update={"waiting": ["orpo", "sft-dpo"], "stages": [one for one in whole.stages if one.kind == "data"]}
    )

    class KnowsTheArms(FakeMaker):
        def __call__(self, plan: Plan, folder: Path, arms: list[str] | None) -> Forecast:
            return super().__call__(whole, folder, arms)

    with pytest.raises(UserError, match="--force"):
        before(waiting, tmp_path, KnowsTheArms(), free=PEAK // 2)
    assert planned(tmp_path) == {}
