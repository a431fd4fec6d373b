"""The A/A control's and the outlier rule's false alarms, by simulation; both by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.doubts import doubts
from harness.results import read_results
from harness.seed_checks import aa_estimate, aa_halves, outlier_p_values
from harness.summary import make_summary, summarise
from tests.harness.fixtures_results import Run, make_results
from tests.harness.simulated_scores import Cell

REPLICATIONS, MOST_FALSE = 2000, 133  # binomial(2000, .05) stays at or below 133 with probability .9995


@pytest.mark.parametrize("num_seeds", [4, 5, 8, 10])
@pytest.mark.parametrize(("seed_sd", "tail"), [(0.02, "normal"), (0.05, "t3"), (0.0, "normal")])
def test_the_control_alarms_in_at_most_5_percent(num_seeds: int, seed_sd: float, tail: str) -> None:
    arm, _ = Cell(num_seeds, 100, seed_sd, 0.1, "binary", tail, 0.0).draw(REPLICATIONS)  # type: ignore[arg-type]
    estimate = aa_estimate(arm)
    assert (np.abs(estimate.difference) > estimate.half_width(0.05)).sum() <= MOST_FALSE


def test_the_halves_are_every_second_seed() -> None:
    assert aa_halves(5) == ([0, 2, 4], [1, 3])


def test_the_deviation_is_that_of_a_direct_computation() -> None:
    means = np.array([0.71, 0.74, 0.69, 0.72, 0.52])
    others = np.delete(means, 4)
    t = abs(means[4] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert outlier_p_values(means)[4] == pytest.approx(2 * stats.t.sf(t, 3))


@pytest.mark.parametrize("num_seeds", [4, 5, 10, 20])
def test_a_normal_seed_is_called_an_outlier_in_at_most_5_percent_of_comparisons(num_seeds: int) -> None:
    means = np.random.default_rng(num_seeds).normal(0.7, 0.03, (REPLICATIONS, 2, num_seeds))
    corrected = outlier_p_values(means) * 2 * num_seeds
    assert (corrected.min((1, 2)) <= 0.05).sum() <= MOST_FALSE


@pytest.mark.parametrize("means", [[0.7, 0.7, 0.7, 0.7], [0.0, 0.0, 0.0, 0.0, 0.0]])
def test_equal_seeds_hold_no_outlier(means: list[float]) -> None:
    assert outlier_p_values(np.array(means)).min() == 1


def test_an_outlier_is_named_and_stays_in(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=10, shifts={("orpo", 7): -0.4}))
    results = read_results(folder)
    summary = make_summary(results)
    assert [(seed.arm, seed.seed) for seed in summary.outlier_seeds] == [("orpo", 7)]
    assert summary.arms["orpo"].metrics["gold_score"].seeds == list(range(10))
    assert any("seed 7 of orpo looks like an outlier" in doubt for doubt in doubts(results, summary))


def test_below_four_seeds_the_control_is_not_available(tmp_path: Path) -> None:
    control = summarise(make_results(tmp_path, Run(seeds=3))).aa_control
    assert control is not None
    assert (control.alarm, control.p_value) == (None, None)
    assert control.reason == "not available: it needs 4 seeds of orpo, there are 3"


def test_from_four_seeds_on_one_arm_is_set_against_itself(tmp_path: Path) -> None:
    control = summarise(make_results(tmp_path, Run(seeds=5))).aa_control
    assert control is not None
    assert (control.arm, control.seeds, control.reason) == ("orpo", ([0, 2, 4], [1, 3]), None)
    assert control.low is not None
    assert control.high is not None
    assert control.alarm == (control.low > 0 or control.high < 0)
