"""The check of the budget, unit by unit: what was matched passes, noise of the clock is told from a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.audit.budget import budget_matched
from harness.audit.case import Case
from harness.audit.checks import Check
from harness.plan_so_far import plan_from
from harness.records import read_record, write_record
from harness.results import read_results
from pipelines.outcomes import TrainOutcome
from tests.harness.fixtures_results import Run, write_results

EPOCHS = {"effective_batch": 10, "micro_batch": 10, "max_length": 128, "arguments": {"num_train_epochs": 20}}


def checked(folder: Path, match: str, amounts: dict[str, list[tuple[float, ...]]]) -> Check:
    """The check on made-up results: each arm's amount of each stage, seed by seed."""
    run = Run(seeds=len(amounts["orpo"]), changes={"budget": {"match": match}, "training": EPOCHS})
    write_results(folder, plan_from(run.comparison(), folder), run)
    write_results(folder, plan := plan_from(run.comparison(), folder), run)
    for trial in plan.trials:
        if trial.role != "arm":
            continue
        assert trial.seed is not None
        for stage_id, amount in zip(trial.training, amounts[trial.name][trial.seed], strict=True):
            record = read_record(folder / stage_id)
            assert record is not None
            assert record.cost is not None
            assert isinstance(record.outcome, TrainOutcome)
            counts = {"num_pairs_seen": int(amount), "num_policy_tokens": int(amount)}
            record = record.model_copy(
                update={
                    "cost": record.cost.model_copy(update={"train_seconds": amount}),
                    "outcome": record.outcome.model_copy(update=counts),
                }
            )
            write_record(folder / stage_id, record)
    return budget_matched(Case(read_results(folder)))


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
