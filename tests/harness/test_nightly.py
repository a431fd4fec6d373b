"""Nights: what is measured anew, which seeds, and that the same night planned again is the same plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.nightly import plan_of
from harness.outlook import stage_label
from harness.plan import Plan
from harness.results import read_results
from harness.reuse import adopt, work_left
from harness.summary import make_summary
from tests.harness.configs import VALID, write
from tests.harness.fixtures_results import Run, add_products, write_results

FIRST, SECOND, THIRD = "2026-11-24", "2026-11-25", "2026-11-26"


def run_of(**nightly: str) -> Run:
    return Run(seeds=2, changes={"nightly": nightly})


def planned(results: Path, run: Run, night: str | None) -> Plan:
    return plan_of(run.comparison(), arms=None, results=results, night=night)


def carry_out(results: Path, run: Run, night: str | None) -> Counter[str]:
    """Do what the plan asks for; the kinds of the stages that had to run."""
    plan = planned(results, run, night)
    folder = results / plan.comparison.name
    folder.mkdir(parents=True, exist_ok=True)
    work = work_left(plan, folder)
    for source in work.elsewhere.values():
        assert adopt(source, folder)
    write_results(folder, plan, run)
    add_products(folder)
    assert not work_left(plan, folder).todo
    return Counter(stage.kind for stage in work.todo)


EVERYTHING = {"pretrain": 1, "data": 1, "sft": 2, "dpo": 2, "orpo": 2, "evaluate": 21}


def test_with_fixed_seeds_and_nothing_measured_anew_a_second_night_has_nothing_to_do(tmp_path: Path) -> None:
    run = run_of(seeds="fixed", remeasure="none")
    assert carry_out(tmp_path, run, FIRST) == EVERYTHING
    assert carry_out(tmp_path, run, SECOND) == {}


def test_a_night_in_which_all_is_measured_anew_runs_everything_once(tmp_path: Path) -> None:
    run = run_of(seeds="fixed", remeasure="all")
    for night in (FIRST, SECOND):
        assert carry_out(tmp_path, run, night) == EVERYTHING
        assert carry_out(tmp_path, run, night) == {}  # the same night goes on where it was
    assert carry_out(tmp_path, run, None) == EVERYTHING  # a plain run is no night


def test_when_costs_are_measured_anew_training_runs_again_and_evaluations_do_not(tmp_path: Path) -> None:
    run = run_of(seeds="fixed", remeasure="costs")
    assert carry_out(tmp_path, run, FIRST) == EVERYTHING  # measured for the first time: once, not twice
    for night in (SECOND, THIRD):
        assert carry_out(tmp_path, run, night) == {"sft": 2, "dpo": 2, "orpo": 2}
        assert carry_out(tmp_path, run, night) == {}
    plan = planned(tmp_path, run, SECOND)
    stages = {stage.id: stage for stage in plan.stages}
    for trial in plan.trials:
        assert [stages[stage].night for stage in trial.billed()] == [SECOND] * len(trial.training)
        assert {stages[stage].night for stage in [*trial.training, *trial.evaluations]} <= {None}
    again = [stage_label(plan, stage) for stage in plan.stages if stage.night]
    assert "orpo seed 1: orpo again, for its cost" in again
    assert len(set(again)) == len(again)
    summary = make_summary(read_results(tmp_path / plan.comparison.name))
    assert summary.arms["sft-dpo"].cost.by_seed[0].train_seconds > 0


def test_rotating_seeds_are_new_each_night_and_add_to_the_evidence_of_the_nights_before(
    tmp_path: Path,
) -> None:
    run = run_of(seeds="rotate", remeasure="none")
    new = {"sft": 2, "dpo": 2, "orpo": 2, "evaluate": 18}
    assert carry_out(tmp_path, run, FIRST) == EVERYTHING
    for night in (SECOND, THIRD):
        assert carry_out(tmp_path, run, night) == new
        assert carry_out(tmp_path, run, night) == {}
    plan = planned(tmp_path, run, THIRD)
    assert plan.new_seeds == [4, 5]
    assert sorted({trial.seed for trial in plan.trials if trial.seed is not None}) == [0, 1, 2, 3, 4, 5]
    assert plan.num_looks == 3
    assert plan == planned(tmp_path, run, THIRD)
    summary = make_summary(read_results(tmp_path / plan.comparison.name))
    assert summary.verdict.num_seeds == 6
    assert any("this is look 3" in doubt for doubt in summary.doubts)


def test_rotating_seeds_go_on_after_those_of_a_plain_run(tmp_path: Path) -> None:
    run = run_of(seeds="rotate", remeasure="none")
    carry_out(tmp_path, run, None)
    assert planned(tmp_path, run, FIRST).new_seeds == [2, 3]


def test_evidence_that_cannot_be_taken_over_is_not_made_again(tmp_path: Path) -> None:
    run = run_of(seeds="rotate", remeasure="none")
    carry_out(tmp_path, run, FIRST)
    changes: dict[str, Any] = {**run.changes, "training": {"effective_batch": 8, "micro_batch": 8}}
    plan = planned(tmp_path, Run(seeds=2, changes=changes), SECOND)
    assert {trial.seed for trial in plan.trials if trial.seed is not None} == {2, 3}
    assert plan.num_looks == 1


@pytest.mark.parametrize("night", ["yesterday", "2026-13-01", "24.11.2026", ""])
def test_a_night_that_is_no_date_is_refused(tmp_path: Path, night: str) -> None:
    with pytest.raises(UserError, match="must be a date such as 2026-11-24, or today"):
        planned(tmp_path, run_of(), night)


def test_a_night_is_planned_from_the_command_line_in_a_folder_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    assert main(["plan", str(path), "--results", str(tmp_path), "--night", FIRST, "--no-forecast"]) == 0
    assert capsys.readouterr().out.startswith(f"small-{FIRST}: ")
    path = write(tmp_path, VALID + "nightly: {seeds: rotate}\n")
    assert main(["plan", str(path), "--night", FIRST]) == 2
    assert "nightly.remeasure must be none with" in capsys.readouterr().err
