"""Length, calibration and overfitting of preference, against scipy and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from harness.diagnostics import batch_noise, calibration, near_ties, preference_diagnostics
from harness.items import Column

RNG = np.random.default_rng(3)


def columns(table: list[dict[str, float]]) -> dict[str, Column]:
    names = dict.fromkeys(name for row in table for name in row)
    held = {name: [(f"i{at}", row[name]) for at, row in enumerate(table) if name in row] for name in names}
    return {
        name: Column(*[tuple(item for item, _ in kept)] * 2, np.array([value for _, value in kept]))
        for name, kept in held.items()
    }


def rows(count: int = 50) -> list[dict[str, float]]:
    return [
        {
            "preference_margin": float(margin),
            "log_odds_margin": float(2 * margin),
            "num_chosen_tokens": int(chosen),
            "num_rejected_tokens": int(rejected),
            "chosen_nll": 1.5,
        }
        for margin, chosen, rejected in zip(
            RNG.normal(0.2, 1, count), RNG.integers(1, 60, count), RNG.integers(1, 60, count), strict=True
        )
    ]


def test_the_correlation_with_length_is_pearsons() -> None:
    table = rows()
    found = preference_diagnostics(columns(table), seed=2)
    assert found is not None
    differences = [row["num_chosen_tokens"] - row["num_rejected_tokens"] for row in table]
    expected = pearsonr([row["preference_margin"] for row in table], differences).statistic
    assert found.margin_length_correlation == pytest.approx(expected)
    assert (found.seed, found.num_pairs) == (2, 50)
    assert [one.reward for one in found.calibration] == ["preference_margin", "log_odds_margin"]


def test_a_margin_that_does_not_vary_has_no_correlation() -> None:
    table = [row | {"preference_margin": 0.5} for row in rows()]
    found = preference_diagnostics(columns(table), seed=None)
    assert found is not None
    assert found.margin_length_correlation is None


def test_fewer_than_two_pairs_say_nothing() -> None:
    assert preference_diagnostics(columns(rows(1)), seed=0) is None
    assert preference_diagnostics(columns([{"benchmark_x": 1.0}] * 5), seed=0) is None


def test_the_gap_is_the_mean_on_trained_pairs_less_that_on_test_pairs() -> None:
    trained = [{"train_chosen_nll": 1.0}, {"train_chosen_nll": 0.5}]
    found = preference_diagnostics(columns([*rows(), *trained]), seed=0)
    assert found is not None
    assert found.train_test_gap == {"chosen_nll": pytest.approx(-0.75)}
    assert found.num_pairs == 50


def test_the_reliability_curve_counts_each_bin() -> None:
    margins = np.log(
        np.array([0.52, 0.53, 0.93, 0.94, 0.92]) / (1 - np.array([0.52, 0.53, 0.93, 0.94, 0.92]))
    )
    margins *= [1, -1, 1, 1, -1]
    found = calibration(margins, "log_odds_margin")
    assert [(one.low, one.num_pairs) for one in found.bins] == [(0.5, 2), (pytest.approx(0.9), 3)]
    assert [one.accuracy for one in found.bins] == [0.5, pytest.approx(2 / 3)]
    assert [one.confidence for one in found.bins] == [pytest.approx(0.525), pytest.approx(0.93)]
    assert found.expected_error == pytest.approx((2 * 0.025 + 3 * (0.93 - 2 / 3)) / 5)


def test_a_margin_that_is_the_true_log_odds_is_calibrated() -> None:
    size = RNG.exponential(1.5, 40_000)
    right = RNG.random(40_000) < 1 / (1 + np.exp(-size))
    assert calibration(np.where(right, size, -size), "log_ratio_margin").expected_error < 0.01
    assert calibration(np.where(right, 9 * size, -9 * size), "log_ratio_margin").expected_error > 0.1


def test_extreme_margins_fall_into_the_last_bin() -> None:
    found = calibration(np.array([1e4, 0.0]), "log_ratio_margin")
    assert [one.low for one in found.bins] == [0.5, 0.95]
    assert [one.accuracy for one in found.bins] == [0.5, 1.0]


def test_the_noise_of_batches_is_the_spread_over_their_sizes() -> None:
    def row(usual: float, one: float, four: float) -> dict[str, float]:
        chosen = {"": usual, "_in_batches_of_1": one, "_in_batches_of_4": four}
        return {f"chosen_logprob_mean{tail}": value for tail, value in chosen.items()} | {
            f"rejected_logprob_mean{tail}": -1.0 for tail in chosen
        }

    # The first pair's margin is .1, .2, -.1: it is preferred in two of three; the second's does not move.
    found = batch_noise(columns([row(-0.9, -0.8, -1.1), row(-0.5, -0.5, -0.5)]))
    assert found is not None
    assert (found.sizes, found.num_pairs) == ([1, 4], 2)
    assert found.largest_margin_change == pytest.approx(0.3)
    assert found.mean_margin_spread == pytest.approx(0.15)
    assert found.accuracy_spread == pytest.approx(0.5)
    assert batch_noise(columns(rows())) is None


def test_near_ties_are_counted_over_all_seeds() -> None:
    seed = [
        {"near_ties": 2, "reply_length_tokens": 9, "stopped_share": 1.0},
        {"near_ties": 0, "reply_length_tokens": 12, "stopped_share": 0.0},
    ]
    found = near_ties([columns(seed), columns(seed[:1]), columns([{"gold_score": 0.4}])])
    assert found is not None
    assert (found.num_places, found.num_tokens, found.num_replies) == (4, 10 + 12 + 10, 2)
    assert near_ties([columns([{"gold_score": 0.4}])]) is None


def test_the_gap_weighs_prompts_alike_as_the_metrics_do() -> None:
    held = columns(rows(4))
    items = held["chosen_nll"].items
    held["chosen_nll"] = Column(items, ("p", "p", "p", "q"), np.array([1.0, 1.0, 1.0, 3.0]))
    held["train_chosen_nll"] = Column(items, ("r", "s", "s", "s"), np.array([0.0, 1.0, 1.0, 1.0]))
    found = preference_diagnostics(held, seed=0)
    assert found is not None
    assert found.train_test_gap["chosen_nll"] == pytest.approx((0 + 1) / 2 - (1 + 3) / 2)
