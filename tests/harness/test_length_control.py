"""The win rate at equal length: the logistic model's own numbers, against simulation and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from harness.intervals import cluster_means
from harness.length_control import length_controlled


def simulated(seeds: int, num_items: int, *, intercept: float, effect: float) -> tuple[Any, Any]:
    """Wins drawn from the model itself, at length differences of standard deviation about 10."""
    random = np.random.default_rng(3)
    differences = random.normal(4, 10, (seeds, num_items))
    odds = intercept + effect * np.tanh(differences / differences.std())
    return (random.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float), differences


def alone(matches: Any) -> list[str]:
    """A prompt of its own for each item."""
    return [f"prompt-{place}" for place in range(matches.shape[1])]


def test_the_length_controlled_rate_finds_the_intercept_that_made_the_wins() -> None:
    wins, differences = simulated(4, 20_000, intercept=-0.5, effect=2.0)
    found = length_controlled(wins, differences, alone(wins))
    assert not isinstance(found, str)
    assert wins.mean() > 0.5  # by length alone
    assert found.values.mean() == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.005)
    assert found.effect == pytest.approx(2, abs=0.05)


def test_the_scatter_of_the_influences_is_the_robust_error_of_statsmodels() -> None:
    wins, differences = simulated(1, 400, intercept=0.3, effect=1.0)
    found = length_controlled(wins, differences, alone(wins))
    assert not isinstance(found, str)
    design = sm.add_constant(np.tanh(differences.ravel() / differences.std()))
    fitted = sm.GLM(wins.ravel(), design, family=sm.families.Binomial()).fit(cov_type="HC0")
    rate = 1 / (1 + np.exp(-fitted.params[0]))
    assert found.values.mean() == pytest.approx(rate, abs=1e-9)
    error = found.values.std() / np.sqrt(found.values.size)
    assert error == pytest.approx(rate * (1 - rate) * fitted.bse[0], rel=1e-6)


@pytest.mark.parametrize(
    ("wins", "differences", "said"),
    [
        ([[1, 0, 1, 0]], [[3, 3, 3, 3]], "do not differ in length"),
        ([[1, 1, 1, 1]], [[1, 2, 3, 4]], "the same verdict"),
        ([[0, 0, 1, 1]], [[-2, -1, 1, 2]], "length alone tells who wins"),
        ([[1] * 91 + [0] * 4 + [0.5] * 2], [[-11] * 95 + [0] * 2], "in every match"),
        ([[1, 0, 1, 1]], [[3, 4, 5, 6]], "in every match"),
        ([[1, 1, 0.5, 0.5, 0, 0]] * 40, [[-2, -1, 0, 0, 1, 2]] * 40, "length alone tells who wins"),
    ],
)
def test_why_there_is_no_length_controlled_rate(wins: Any, differences: Any, said: str) -> None:
    matches = np.array(wins, dtype=float)
    found = length_controlled(matches, np.array(differences, dtype=float), alone(matches))
    assert isinstance(found, str)
    assert said in found


def test_ties_count_half_in_the_logistic_model() -> None:
    differences = np.array([[-5.0, 5.0, -5.0, 5.0]])
    found = length_controlled(np.array([[0.5, 0.5, 0.5, 0.5]]), differences, alone(differences))
    assert found == "every match has the same verdict"
    mixed = length_controlled(np.array([[0.5, 1.0, 0.0, 0.5]]), differences, alone(differences))
    assert not isinstance(mixed, str)
    assert mixed.values.mean() == pytest.approx(0.5)
    assert mixed.effect > 0


def test_items_of_one_prompt_weigh_as_much_as_one_item_of_another() -> None:
    wins, differences = simulated(3, 60, intercept=0.4, effect=1.0)
    clusters = [
        f"prompt-{min(place, 30)}" for place in range(60)
    ]  # the last thirty items come from one prompt
    found = length_controlled(wins, differences, clusters)
    assert not isinstance(found, str)
    weights = np.broadcast_to(np.where(np.arange(60) < 30, 1, 1 / 30), wins.shape).ravel()
    design = sm.add_constant(np.tanh(differences.ravel() / differences.std()))
    fitted = sm.GLM(wins.ravel(), design, family=sm.families.Binomial(), freq_weights=weights).fit()
    expected = 1 / (1 + np.exp(-fitted.params[0]))
    assert cluster_means(found.values, clusters).mean() == pytest.approx(expected, abs=1e-9)
    assert abs(found.values.mean() - expected) > 0.01
