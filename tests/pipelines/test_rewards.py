"""The three rewards by hand, and which pairs are balanced in length."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.rewards import (
    PairLogprobs,
    against_base,
    length_balanced,
    log_odds,
    own_columns,
)

POLICY = PairLogprobs(chosen_sum=-6.0, rejected_sum=-6.0, num_chosen=4, num_rejected=3)
BASE = PairLogprobs(chosen_sum=-10.0, rejected_sum=-9.0, num_chosen=4, num_rejected=3)


def test_the_three_rewards_are_those_of_their_formulas() -> None:
    own = own_columns(POLICY)
    assert own["preference_margin"] == pytest.approx(-6 / 4 + 6 / 3)
    chosen, rejected = math.exp(-1.5), math.exp(-2.0)
    odds_ratio = (chosen / (1 - chosen)) / (rejected / (1 - rejected))
    assert own["log_odds_margin"] == pytest.approx(math.log(odds_ratio))
    base = against_base(POLICY, BASE)
    assert base["log_ratio_margin"] == pytest.approx((-6 + 10) - (-6 + 9))
    assert base["log_ratio_accuracy"] == 1.0
    assert base["chosen_logprob_shift"] == pytest.approx((-6 + 10) / 4)
    assert base["rejected_logprob_shift"] == pytest.approx((-6 + 9) / 3)


@pytest.mark.parametrize("means", [(-0.1, -0.2), (-3.0, -1e-6), (-20.0, -20.5), (0.0, -0.5)])
def test_log_odds_rank_replies_as_their_mean_log_probs_do(means: tuple[float, float]) -> None:
    """So the accuracy by log odds is the accuracy by length-averaged log-prob, and needs no column."""
    assert (log_odds(means[0]) > log_odds(means[1])) == (means[0] > means[1])
    assert math.isfinite(log_odds(means[0]))


def test_a_base_model_against_itself_prefers_neither() -> None:
    assert against_base(BASE, BASE) == {
        "log_ratio_accuracy": 0.5,
        "log_ratio_margin": 0.0,
        "chosen_logprob_shift": 0.0,
        "rejected_logprob_shift": 0.0,
    }


def test_broken_log_probs_stay_visible() -> None:
    broken = PairLogprobs(float("nan"), -6.0, 4, 3)
    assert all(math.isnan(value) for value in own_columns(broken).values())
    assert math.isnan(against_base(broken, BASE)["log_ratio_accuracy"])


def lengths(*pairs: tuple[int, int]) -> list[PairLogprobs]:
    return [PairLogprobs(-1.0, -1.0, chosen, rejected) for chosen, rejected in pairs]


def test_balanced_pairs_have_chosen_longer_as_often_as_shorter_by_about_as_much() -> None:
    pairs = lengths((20, 10), (21, 10), (10, 20), (30, 30), (100, 99), (100, 98), (99, 100), (10, 90))
    taken = length_balanced(pairs)
    assert taken == [0, 2, 3, 4, 6]
    differences = [pairs[place].num_chosen - pairs[place].num_rejected for place in taken]
    assert sum(difference > 0 for difference in differences) == sum(
        difference < 0 for difference in differences
    )


def test_a_model_that_likes_length_scores_half_on_balanced_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(5, 60, (400, 2), generator=generator).tolist()
    pairs = lengths(*((chosen + 20, rejected) for chosen, rejected in drawn))  # chosen is longer on the whole
    longer = [float(pair.num_chosen > pair.num_rejected) for pair in pairs]
    taken = [
        place for place in length_balanced(pairs) if pairs[place].num_chosen != pairs[place].num_rejected
    ]
    assert sum(longer) / len(longer) > 0.6
    assert sum(longer[place] for place in taken) / len(taken) == 0.5


def test_where_chosen_is_always_longer_no_pair_is_balanced() -> None:
    assert length_balanced(lengths((5, 3), (9, 4))) == []
