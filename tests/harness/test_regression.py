"""Did it get worse from one station of the training to the next?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.plan import Trial
from harness.regression import station_changes, station_likelihoods
from harness.scores import Table

SEEDS = (0, 1, 2)


def trial(name: str, seed: int | None, *training: str) -> Trial:
    return Trial(name=name, role="arm", seed=seed, preparation=[], training=list(training), evaluations=[])


TRIALS = {
    "base": [trial("base", None)],
    "sft": [trial("sft", seed, f"sft{seed}") for seed in SEEDS],
    "orpo": [trial("orpo", seed, f"orpo{seed}") for seed in SEEDS],
    "sft-dpo": [trial("sft-dpo", seed, f"sft{seed}", f"dpo{seed}") for seed in SEEDS],
}


def table(values: np.ndarray, seeds: tuple[int | None, ...] = SEEDS) -> Table:
    items = tuple(f"i{number:02d}" for number in range(values.shape[1]))
    return Table(SEEDS, seeds, items, items, values)


def scores(shift: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 0.1, (3, 40))


def test_each_station_is_compared_with_the_next_one_only() -> None:
    tables = {name: {"chosen_nll": table(scores(1.0))} for name in TRIALS}
    tables["base"] = {"chosen_nll": table(scores(1.0)[:1], (None,))}
    found = [(change.before, change.after) for change in station_changes(TRIALS, tables)]
    assert found == [("base", "sft"), ("base", "orpo"), ("sft", "sft-dpo")]


def test_without_the_sft_control_the_base_is_the_station_before() -> None:
    trials = {name: of_model for name, of_model in TRIALS.items() if name != "sft"}
    tables = {name: {"chosen_nll": table(scores(1.0))} for name in trials}
    tables["base"] = {"chosen_nll": table(scores(1.0)[:1], (None,))}
    assert ("base", "sft-dpo") in {
        (change.before, change.after) for change in station_changes(trials, tables)
    }


def test_sft_regressed_after_dpo_where_the_whole_interval_is_worse() -> None:
    before, after = scores(1.0), scores(1.0) + 0.3 + scores(0, 5) / 10
    (change,) = station_changes(
        {"sft": TRIALS["sft"], "sft-dpo": TRIALS["sft-dpo"]},
        {"sft": {"chosen_nll": table(before)}, "sft-dpo": {"chosen_nll": table(after)}},
    )
    assert change.worse is True
    assert change.difference == pytest.approx((after - before).mean())
    assert change.low is not None
    assert change.high is not None
    assert change.low < change.difference < change.high
    # At least as wide as the interval over seed means alone.
    by_seed = (after - before).mean(1)
    half = stats.t.isf(0.025, 2) * by_seed.std(ddof=1) / np.sqrt(3)
    assert change.high - change.difference >= half - 1e-12


def test_the_direction_of_the_metric_says_what_is_worse() -> None:
    before, after = scores(0.5), scores(0.5) + 0.3 + scores(0, 5) / 10
    trials = {"sft": TRIALS["sft"], "sft-dpo": TRIALS["sft-dpo"]}
    tables = {"sft": {"benchmark_x": table(before)}, "sft-dpo": {"benchmark_x": table(after)}}
    assert [change.worse for change in station_changes(trials, tables)] == [False]
    tables = {"sft": {"benchmark_x": table(after)}, "sft-dpo": {"benchmark_x": table(before)}}
    assert [change.worse for change in station_changes(trials, tables)] == [True]


def test_seeds_are_paired_and_a_lost_one_is_left_out() -> None:
    before, after = scores(1.0), scores(1.2, 2)
    (change,) = station_changes(
        {"sft": TRIALS["sft"], "sft-dpo": TRIALS["sft-dpo"]},
        {"sft": {"chosen_nll": table(before)}, "sft-dpo": {"chosen_nll": table(after[[2, 0]], (2, 0))}},
    )
    assert change.num_seeds == 2
    assert change.difference == pytest.approx((after[[2, 0]] - before[[2, 0]]).mean())


def test_with_a_single_seed_there_is_a_difference_and_no_interval() -> None:
    (change,) = station_changes(
        {"sft": TRIALS["sft"][:1], "sft-dpo": TRIALS["sft-dpo"][:1]},
        {
            "sft": {"chosen_nll": table(scores(1)[:1], (0,))},
            "sft-dpo": {"chosen_nll": table(scores(2)[:1], (0,))},
        },
    )
    assert (change.low, change.high, change.worse) == (None, None, None)


def test_metrics_without_a_direction_and_those_of_training_pairs_are_left_out() -> None:
    columns = {"reply_length_tokens": table(scores(1)), "train_chosen_nll": table(scores(1))}
    assert station_changes(TRIALS, dict.fromkeys(TRIALS, columns)) == []


def shifts(chosen: float, rejected: float, *, seeds: int = 3) -> dict[str, Table]:
    random = np.random.default_rng(3)
    own = tuple(range(seeds))
    return {
        f"{side}_logprob_shift": table(random.normal(shift, 0.05, (seeds, 40)), own)
        for side, shift in (("chosen", chosen), ("rejected", rejected))
    }


def test_the_likelihood_was_displaced_where_chosen_fell_while_the_margin_grew() -> None:
    tables = {
        "base": {"preference_margin": table(scores(0.0))},  # has not moved from itself
        "fell": shifts(-0.4, -1.0),
        "rose": shifts(0.2, -1.0),
        "both alike": shifts(-0.4, -0.4),
        "one seed": shifts(-0.4, -1.0, seeds=1),
    }
    found = {one.model: one for one in station_likelihoods(tables)}
    assert {name: one.displaced for name, one in found.items()} == {
        "fell": True, "rose": False, "both alike": False, "one seed": None,
    }  # fmt: skip
    fell = found["fell"]
    chosen, rejected = (
        tables["fell"][f"{side}_logprob_shift"].values.mean() for side in ("chosen", "rejected")
    )
    assert fell.margin.mean == pytest.approx(chosen - rejected)
    assert (fell.num_seeds, fell.num_items) == (3, 40)
    # At least as wide as the interval over seed means alone.
    by_seed = tables["fell"]["chosen_logprob_shift"].values.mean(1)
    half = stats.t.isf(0.025, 2) * by_seed.std(ddof=1) / np.sqrt(3)
    assert fell.chosen.high is not None
    assert fell.chosen.high - fell.chosen.mean >= half - 1e-12
