"""The check of the budget, unit by unit: what was matched passes, noise of the clock is told from a difference."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from harness.audit.budget import budget_matched
from harness.audit.case import Case
from harness.audit.checks import Check
from harness.plan_so_far import plan_from
from harness.records import read_record, write_record
from harness.results import read_results
from pipelines.outcomes import CalibrateOutcome, TrainOutcome
from pipelines.stages import TrainSettings
from tests.harness.fixtures_results import Run, write_results

EPOCHS = {"effective_batch": 10, "micro_batch": 10, "max_length": 128, "arguments": {"num_train_epochs": 20}}


def checked(
    folder: Path,
    match: str,
    amounts: dict[str, list[tuple[float, ...]]],
    *,
    contended: bool | None = None,
    orpo_steps: int = 200,
    calibrated: tuple[float, ...] = (),
) -> Check:
    """The check on made-up results: each arm's amount of each stage, seed by seed.

    Args:
        folder: Where they go.
        match: What was matched.
        amounts: Pairs, tokens or seconds.
        contended: Of every training stage.
        orpo_steps: That ORPO took; its budget is 200.
        calibrated: By how much each calibrated step was longer or shorter than the median one.
    """
    run = Run(seeds=len(amounts["orpo"]), changes={"budget": {"match": match}, "training": EPOCHS})
    write_results(folder, plan_from(run.comparison(), folder), run)
    write_results(folder, plan := plan_from(run.comparison(), folder), run)
    for stage in plan.stages if calibrated else ():
        if stage.kind == "calibrate":
            spread(folder / stage.id, calibrated)
    for trial in plan.trials:
        if trial.role != "arm":
            continue
        assert trial.seed is not None
        for stage_id, amount in zip(trial.training, amounts[trial.name][trial.seed], strict=True):
            record = read_record(folder / stage_id)
            assert record is not None
            assert record.cost is not None
            assert isinstance(record.outcome, TrainOutcome)
            settings = record.stage.settings
            assert isinstance(settings, TrainSettings)
            counts = {
                "num_pairs_seen": int(amount),
                "num_policy_tokens": int(amount),
                "num_steps": settings.arguments["max_steps"] if settings.kind != "orpo" else orpo_steps,
            }
            cost = {"train_seconds": amount, "contended": contended, "other_processor_share": 0.31}
            record = record.model_copy(
                update={
                    "cost": record.cost.model_copy(update=cost),
                    "outcome": record.outcome.model_copy(update=counts),
                }
            )
            write_record(folder / stage_id, record)
    return budget_matched(Case(read_results(folder)))


def spread(folder: Path, by: tuple[float, ...]) -> None:
    record = read_record(folder)
    assert record is not None
    assert isinstance(record.outcome, CalibrateOutcome)
    steps = [median(record.outcome.step_seconds) * factor for factor in by]
    outcome = record.outcome.model_copy(update={"step_seconds": steps})
    write_record(folder, record.model_copy(update={"outcome": outcome}))


@pytest.mark.parametrize("match", ["pairs", "tokens", "seconds"])
def test_the_stages_of_an_arm_count_together(tmp_path: Path, match: str) -> None:
    found = checked(tmp_path, match, {"orpo": [(2000,)], "sft-dpo": [(700, 1310)]})
    assert found.status == "pass", found.evidence


@pytest.mark.parametrize("match", ["pairs", "tokens", "seconds"])
def test_more_than_one_percent_apart_fails(tmp_path: Path, match: str) -> None:
    found = checked(tmp_path, match, {"orpo": [(2000,)], "sft-dpo": [(700, 1330)]})
    assert found.status == "fail"
    assert "1.5% apart" in found.evidence


def test_every_seed_must_have_its_tokens_but_seconds_are_judged_by_their_mean(tmp_path: Path) -> None:
    amounts = {"orpo": [(2000.0,), (2000.0,)], "sft-dpo": [(700.0, 1350.0), (700.0, 1250.0)]}
    assert checked(tmp_path / "tokens", "tokens", amounts).status == "fail"
    assert checked(tmp_path / "seconds", "seconds", amounts).status == "pass"


def test_each_seed_is_held_against_the_yardstick_with_the_same_seed(tmp_path: Path) -> None:
    # 1.8 % between the seeds of an arm, each within 1 % of its yardstick.
    amounts = {"orpo": [(2000.0,), (2000.0,)], "sft-dpo": [(700.0, 1318.0), (700.0, 1282.0)]}
    found = checked(tmp_path, "tokens", amounts)
    assert (found.status, found.evidence) == ("pass", "tokens at most 0.9% apart, seed by seed")


def test_a_difference_within_the_noise_of_the_clock_is_a_warning(tmp_path: Path) -> None:
    # Ratios 1.00, 1.03, 1.06: mean 1.03, interval by hand 1.030 x exp(+-4.303 x 0.0291 / sqrt 3) = 0.958 to 1.107.
    noisy = {"orpo": [(100.0,)] * 3, "sft-dpo": [(40.0, 60.0), (40.0, 63.0), (40.0, 66.0)]}
    found = checked(tmp_path / "noisy", "seconds", noisy)
    assert found.status == "warning"
    assert "3.0% apart; over 3 seeds that is within the noise (0.958 to 1.107)" in found.evidence
    steady = {"orpo": [(100.0,)] * 3, "sft-dpo": [(40.0, 62.9), (40.0, 63.0), (40.0, 63.1)]}
    assert checked(tmp_path / "steady", "seconds", steady).status == "fail"


def test_other_steps_than_the_calibration_gave_fail_though_the_clock_finds_them_equal(tmp_path: Path) -> None:
    # Made up: 0.1 s to start and 0.4 s a step of ORPO, so 80.1 s by 200 steps and 84.1 by 210; the other arm 80.0.
    equal = {"orpo": [(100.0,)] * 3, "sft-dpo": [(40.0, 60.0)] * 3}
    matched = checked(tmp_path / "matched", "seconds", equal)
    assert matched.status == "pass"
    assert matched.evidence.startswith("calibrated seconds at most 0.1% apart by the steps that were taken; ")
    found = checked(tmp_path / "other", "seconds", equal, orpo_steps=210, contended=True)
    assert found.status == "fail"
    assert "80 calibrated seconds in sft-dpo seed 0, 84.1 in orpo seed 0: 4.9% apart" in found.evidence


def test_the_clock_of_a_busy_machine_is_a_warning_where_the_steps_are_those_of_the_budget(
    tmp_path: Path,
) -> None:
    steady = {"orpo": [(100.0,)] * 3, "sft-dpo": [(40.0, 62.9), (40.0, 63.0), (40.0, 63.1)]}
    busy = checked(tmp_path / "busy", "seconds", steady, contended=True)
    assert busy.status == "warning"
    assert "3.0% apart; others took up to 31 % of the processors' time in 9 training stages" in busy.evidence
    quiet = checked(tmp_path / "quiet", "seconds", steady, contended=False)
    assert quiet.status == "fail"
    assert quiet.evidence.endswith("Delete the calibrate stages and run again on a machine to itself")


def test_the_noise_of_a_single_seed_is_judged_by_how_unequal_the_calibrated_steps_are(tmp_path: Path) -> None:
    # By hand, each step 5 % shorter or longer: ORPO 0.1 + 200 x 0.4, SFT 0.1 + 114 x 0.2, DPO 0.1 + 114 x 0.5.
    one = {"orpo": [(80.0,)], "sft-dpo": [(23.0, 59.4)]}
    noisy = checked(tmp_path / "noisy", "seconds", one, calibrated=(0.95, 1.0, 1.05))
    assert noisy.status == "warning"
    assert "it may be 76.1 to 84.1 s in orpo, 76.01 to 83.99 s in sft-dpo" in noisy.evidence
    steady = checked(tmp_path / "steady", "seconds", one, calibrated=(0.99, 1.0, 1.01))
    assert steady.status == "fail"
