"""The verdict's statistics: error rates by simulation, mean squares by hand, symmetry, and the procedure's outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from scipy import stats

from harness.intervals import (
    Estimate,
    FloatArray,
    cluster_means,
    estimate_mean,
    mean_squares,
    p_value,
    paired,
    welch,
)
from harness.verdict import Rule, Scores, Verdict, estimate_difference, findable, judge, seeds_needed
from tests.harness.simulated_scores import SIX_CELLS, Cell

REPLICATIONS = 2000
MOST_FALSE = 133  # binomial(2000, .05) stays at or below it with probability .9995
FORMS = (welch, paired)
CELLS = pytest.mark.parametrize(
    "cell", SIX_CELLS, ids=lambda cell: f"S{cell.num_seeds}-{cell.kind}-{cell.tail}"
)


def arms(num_seeds: int, num_items: int = 60, *, effect: float = 0.0, seed: int = 0) -> tuple[Scores, Scores]:
    cell = Cell(num_seeds, num_items, 0.02, 0.05, "continuous", "normal", 0.3)
    first, second = cell.draw(1, difference=effect, seed=seed)
    seeds = tuple(range(num_seeds))
    return Scores("a", seeds, seeds, first[0]), Scores("b", seeds, seeds, second[0])


def keep(scores: Scores, seeds: tuple[int, ...]) -> Scores:
    return replace(scores, seeds=seeds, values=scores.values[list(seeds)])


@CELLS
def test_without_a_true_difference_a_better_arm_is_found_in_at_most_5_percent(cell: Cell) -> None:
    first, second = cell.draw(REPLICATIONS)
    for form in FORMS:
        estimate = form(first, second)
        assert (np.abs(estimate.difference) > estimate.half_width(0.05)).sum() <= MOST_FALSE, form


@CELLS
@pytest.mark.parametrize("shift", [0.05, 0.1, 0.2])
def test_at_a_true_difference_of_the_margin_equivalence_is_found_in_at_most_5_percent(
    cell: Cell, shift: float
) -> None:
    first, second = cell.draw(REPLICATIONS, difference=shift, seed=1)
    # Scores are held within [0, 1], so the true difference is smaller than the shift of the levels.
    margin = (first - second).mean()
    for form in FORMS:
        estimate = form(first, second)
        assert (np.abs(estimate.difference) + estimate.half_width(0.1) < margin).sum() <= MOST_FALSE, form


@CELLS
def test_a_t_test_over_pooled_items_would_be_caught(cell: Cell) -> None:
    first, second = cell.draw(REPLICATIONS)
    pooled = (first - second).reshape(REPLICATIONS, -1)
    assert (stats.ttest_1samp(pooled, 0, axis=1).pvalue < 0.05).sum() > MOST_FALSE


@pytest.mark.parametrize("cell", SIX_CELLS[3:], ids=lambda cell: f"S{cell.num_seeds}-{cell.kind}")
def test_a_t_test_over_seed_differences_would_be_caught(cell: Cell) -> None:
    first, second = cell.draw(REPLICATIONS)
    by_seed = (first - second).mean(-1)
    assert (stats.ttest_1samp(by_seed, 0, axis=1).pvalue < 0.05).sum() > MOST_FALSE


def test_equivalence_is_found_where_it_is_true_and_there_are_seeds_enough() -> None:
    cell = Cell(8, 500, 0.02, 0.05, "continuous", "normal", 0.0)
    estimate = paired(*cell.draw(300))
    found = np.abs(estimate.difference) + estimate.half_width(0.1) < 0.05
    assert found.mean() > 0.8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_items_from_one_prompt_inflate_false_verdicts_unless_they_are_averaged(
    form: Callable[[FloatArray, FloatArray], Estimate], num_seeds: int
) -> None:
    # The arms differ by prompt, not by item: 40 prompts of 5 items each are 40 things to learn from, not 200.
    by_prompt = Cell(num_seeds, 40, 0.0, 0.3, "continuous", "normal", 0.0).draw(REPLICATIONS, seed=3)
    random = np.random.default_rng(4)
    first, second = (
        np.repeat(arm, 5, axis=-1) + random.normal(0, 0.1, (*arm.shape[:-1], 200)) for arm in by_prompt
    )
    clusters = [f"prompt-{item // 5}" for item in range(200)]
    ignored = form(first, second)
    averaged = form(cluster_means(first, clusters), cluster_means(second, clusters))
    assert (np.abs(ignored.difference) > ignored.half_width(0.05)).sum() > 2 * MOST_FALSE
    assert (np.abs(averaged.difference) > averaged.half_width(0.05)).sum() <= MOST_FALSE


def test_cluster_means_are_plain_means_of_the_clusters_columns() -> None:
    values = np.array([[1.0, 2.0, 3.0, 10.0], [0.0, 4.0, 8.0, 1.0]])
    means = cluster_means(values, ["b", "a", "b", "c"])
    assert means.tolist() == [[2, 2, 10], [4, 4, 1]]  # a, b, c
    assert cluster_means(values, ["a", "b", "c", "d"]).tolist() == values.tolist()


def test_mean_squares_are_those_of_a_direct_computation() -> None:
    table = np.random.default_rng(3).normal(size=(4, 7))
    num_seeds, num_items = table.shape
    mean = sum(table[s, i] for s in range(num_seeds) for i in range(num_items)) / (num_seeds * num_items)
    rows = [sum(table[s, i] for i in range(num_items)) / num_items for s in range(num_seeds)]
    columns = [sum(table[s, i] for s in range(num_seeds)) / num_seeds for i in range(num_items)]
    residual = sum(
        (table[s, i] - rows[s] - columns[i] + mean) ** 2 for s in range(num_seeds) for i in range(num_items)
    )
    found = mean_squares(table)
    assert found.mean == pytest.approx(mean)
    assert found.seeds == pytest.approx(num_items * sum((row - mean) ** 2 for row in rows) / 3)
    assert found.items == pytest.approx(num_seeds * sum((column - mean) ** 2 for column in columns) / 6)
    assert found.residual == pytest.approx(residual / 18)


def test_the_paired_interval_is_the_formula_worked_by_hand() -> None:
    first, second = arms(5, 40, effect=0.05)
    difference = first.values - second.values
    squares = mean_squares(difference)
    from_seeds = stats.t.ppf(0.975, 4) ** 2 * squares.seeds / (5 * 40)
    from_items = stats.t.ppf(0.975, 39) ** 2 * max(squares.items - squares.residual, 0) / (5 * 40)
    verdict = judge(first, second, Rule(margin=0.001))
    assert verdict.form == "paired"
    assert verdict.difference == pytest.approx(difference.mean())
    assert verdict.high is not None
    assert verdict.high - difference.mean() == pytest.approx(math.sqrt(from_seeds + from_items))


def test_without_an_item_part_the_welch_interval_is_welchs_t_test_on_the_seed_means() -> None:
    first, second = arms(4, 50)
    # Every item behaves alike: the item part is then 0.
    first, second = (replace(arm, values=np.repeat(arm.values[:, :1], 50, axis=1)) for arm in (first, second))
    test = stats.ttest_ind(first.values[:, 0], second.values[:, 0], equal_var=False)
    interval = test.confidence_interval(0.95)
    verdict = judge(first, second, Rule(margin=0.001))
    assert verdict.form == "welch"
    assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high))
    assert verdict.p_value == pytest.approx(test.pvalue)


def test_welchs_item_part_takes_each_arms_own_residual_off() -> None:
    first, second = arms(3, 30)
    by_item = first.values.mean(0) - second.values.mean(0)
    noise = (mean_squares(first.values).residual + mean_squares(second.values).residual) / 3
    expected = max(0.0, by_item.var(ddof=1) - noise) / 30
    assert welch(first.values, second.values).item_part == pytest.approx(expected)


@pytest.mark.parametrize("num_seeds", [3, 4, 5, 8])
def test_the_p_value_is_below_alpha_exactly_where_the_interval_excludes_zero(num_seeds: int) -> None:
    for effect in (0.0, 0.03, 0.1):
        estimate = estimate_difference(*arms(num_seeds, effect=effect))
        p = p_value(estimate)
        assert estimate.half_width(p) == pytest.approx(abs(float(estimate.difference)), rel=1e-6)


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("effect", [0.0, 0.02, 0.15])
def test_swapping_the_arms_mirrors_the_verdict(num_seeds: int, effect: float) -> None:
    first, second = arms(num_seeds, effect=effect)
    one, other = (judge(*pair, Rule(margin=0.02)) for pair in ((first, second), (second, first)))
    assert one.outcome == other.outcome
    assert one.difference == pytest.approx(-(other.difference or 0))
    assert (one.low, one.high) == pytest.approx((-(other.high or 0), -(other.low or 0)))
    assert one.p_value == pytest.approx(other.p_value)
    assert one.seeds_needed == other.seeds_needed


@pytest.mark.parametrize("num_seeds", [3, 6])
def test_the_order_of_seeds_and_items_changes_nothing(num_seeds: int) -> None:
    first, second = arms(num_seeds, effect=0.04)
    seeds = np.random.default_rng(1).permutation(num_seeds)
    items = np.random.default_rng(2).permutation(first.values.shape[1])
    shuffled = (
        replace(first, seeds=tuple(int(seed) for seed in seeds), values=first.values[seeds][:, items]),
        replace(second, values=second.values[:, items]),
    )
    one, other = judge(first, second, Rule(margin=0.02)), judge(*shuffled, Rule(margin=0.02))
    assert (one.outcome, one.form, one.seeds_needed) == (other.outcome, other.form, other.seeds_needed)
    assert (one.low, one.high, one.p_value) == pytest.approx((other.low, other.high, other.p_value))


@pytest.mark.parametrize(("num_seeds", "form"), [(3, "welch"), (4, "welch"), (5, "paired"), (9, "paired")])
def test_the_form_follows_from_the_number_of_seeds_alone(num_seeds: int, form: str) -> None:
    assert judge(*arms(num_seeds), Rule(margin=0.02)).form == form


def test_a_seed_that_both_arms_lost_makes_it_welch_and_the_verdict_stands() -> None:
    first, second = (keep(arm, (0, 1, 3, 4, 5)) for arm in arms(6, effect=0.2))
    verdict = judge(first, second, Rule(margin=0.02))
    assert (verdict.form, verdict.outcome) == ("welch", "a")


def test_a_large_difference_names_the_better_arm() -> None:
    first, second = arms(3, effect=0.2)
    assert judge(first, second, Rule(margin=0.02)).outcome == "a"
    assert judge(second, first, Rule(margin=0.02)).outcome == "a"


def test_a_difference_below_a_wide_margin_is_equivalent_even_if_detectable() -> None:
    verdict = judge(*arms(8, 400, effect=0.1), Rule(margin=0.5))
    assert verdict.outcome == "equivalent"
    assert verdict.p_value is not None
    assert verdict.p_value < 0.05
    assert verdict.reason == "a difference is detectable, but below the margin"


def test_a_winner_by_less_than_the_margin_is_told_to_be_one() -> None:
    first, second = arms(8, 400, effect=0.1)
    difference = abs(float(first.values.mean() - second.values.mean()))
    for reach, reason in ((1.001, "the estimate lies below the margin"), (0.999, None)):
        verdict = judge(first, second, Rule(margin=reach * difference))
        assert verdict.outcome == "a"
        assert (verdict.reason or "").startswith(reason or "")
        assert (verdict.reason is None) is (reason is None)


def test_a_true_difference_that_is_called_findable_is_found_four_times_of_five() -> None:
    random = np.random.default_rng(4)
    for alpha in (0.05, 0.01):
        gains = random.normal(0, 0.02, (2000, 8, 1)) + random.normal(0, 0.1, (2000, 1, 100))
        noise = estimate_mean(gains + random.normal(0, 0.2, (2000, 8, 100)))
        true_difference = float(findable(noise, alpha).mean())
        half = noise.half_width(alpha)
        assert 0.75 < (noise.difference + true_difference > half).mean() < 0.86
        assert (noise.difference + half.mean() > half).mean() < 0.6


@pytest.mark.parametrize("num_seeds", [3, 6])
@pytest.mark.parametrize(("reach", "outcome"), [(1.001, "equivalent"), (0.999, "undecided")])
def test_equivalent_begins_where_the_90_percent_interval_fits_into_the_margin(
    num_seeds: int, reach: float, outcome: str
) -> None:
    first, second = arms(num_seeds, effect=0.01)
    estimate = estimate_difference(first, second)
    margin = abs(float(estimate.difference)) + float(estimate.half_width(0.1))
    assert judge(first, second, Rule(margin=reach * margin)).outcome == outcome


def test_failures_that_differ_between_the_arms_withhold_even_a_clear_verdict() -> None:
    first, second = arms(5, effect=0.3)
    verdict = judge(keep(first, (0, 1, 2, 4)), second, Rule(margin=0.02))
    assert verdict.outcome == "incomplete"
    assert verdict.reason == "failures differ between the arms: a lacks seed 3"
    assert verdict.low is not None  # the interval is still shown
    assert (verdict.form, verdict.num_seeds) == ("welch", 4)


@pytest.mark.parametrize(("num_seeds", "has_interval"), [(1, False), (2, True)])
def test_fewer_than_three_seeds_give_no_verdict(num_seeds: int, has_interval: bool) -> None:
    verdict = judge(*arms(num_seeds, effect=0.4), Rule(margin=0.02))
    assert verdict.outcome == "incomplete"
    assert "at least 3 seeds" in (verdict.reason or "")
    assert (verdict.low is not None) is has_interval


def test_an_arm_without_any_finished_seed_is_incomplete_and_has_no_difference() -> None:
    first, second = arms(3)
    none = replace(first, seeds=(), values=np.empty((0, first.values.shape[1])))
    verdict = judge(none, second, Rule(margin=0.02))
    assert (verdict.outcome, verdict.difference, verdict.num_seeds) == ("incomplete", None, 0)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_seeds_that_do_not_differ_decide_nothing(num_seeds: int) -> None:
    first, second = (replace(arm, values=np.tile(arm.values[0], (num_seeds, 1))) for arm in arms(num_seeds))
    verdict = judge(first, second, Rule(margin=10.0))
    assert (verdict.outcome, verdict.p_value) == ("undecided", None)
    assert (verdict.reason or "").startswith("the difference of the means is the same in every seed")


@pytest.mark.parametrize("num_seeds", [3, 4, 5, 8])
@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (0.0, "both have the same score on every item of every seed: this metric does not tell them apart"),
        (0.1, "the difference is the same on every item of every seed, so nothing can be said of others"),
    ],
)
def test_differences_that_do_not_vary_are_undecided_at_every_number_of_seeds(
    num_seeds: int, shift: float, reason: str
) -> None:
    first, _ = arms(num_seeds)
    order = tuple(reversed(range(num_seeds)))
    second = replace(first, name="b", seeds=order, values=first.values[list(order)] - shift)
    verdict = judge(first, second, Rule(margin=0.5))
    assert (verdict.outcome, verdict.reason, verdict.p_value) == ("undecided", reason, None)
    assert verdict.seeds_needed is None


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_a_single_item_that_differs_is_not_called_the_same_score(num_seeds: int) -> None:
    first, _ = arms(num_seeds)
    values = first.values.copy()
    values[0, 0] += 0.01
    verdict = judge(first, replace(first, name="b", values=values), Rule(margin=0.5))
    assert (verdict.outcome, verdict.reason) == ("equivalent", None)


def undecided(num_seeds: int, margin: float, num_items: int = 300) -> Verdict:
    verdict = judge(*arms(num_seeds, num_items), Rule(margin=margin))
    assert verdict.outcome == "undecided"
    return verdict


def test_undecided_says_how_many_seeds_would_decide_it() -> None:
    verdict = undecided(3, 0.02)
    assert verdict.seeds_needed is not None
    low, high = verdict.seeds_needed
    assert 3 < low < high


def test_the_seeds_needed_are_the_first_number_that_fulfils_the_inequality() -> None:
    first, second = arms(6, 300)
    rule, estimate = Rule(margin=0.015), paired(first.values, second.values)
    needed = seeds_needed(estimate, rule)
    assert needed is not None
    variance = (first.values - second.values).mean(1).var(ddof=1)
    items, inflation = float(estimate.item_part), 5 / stats.chi2.ppf(0.2, 5)

    def decides(seeds: int, factor: float) -> bool:
        from_seeds = factor * variance / seeds
        half = math.sqrt(
            stats.t.ppf(0.975, seeds - 1) ** 2 * from_seeds + stats.t.ppf(0.975, 299) ** 2 * items
        )
        return half + 0.84 * math.sqrt(from_seeds + items) < rule.margin

    for factor, found in zip((1.0, inflation), needed, strict=True):
        assert [n for n in range(7, found + 1) if decides(n, factor)] == [found]


def test_the_advice_is_more_items_where_no_number_of_seeds_would_do() -> None:
    cell = Cell(5, 20, 0.02, 0.3, "continuous", "normal", 0.0)
    first, second = cell.draw(1)
    seeds = tuple(range(5))
    verdict = judge(
        Scores("a", seeds, seeds, first[0]), Scores("b", seeds, seeds, second[0]), Rule(margin=0.01)
    )
    assert (verdict.outcome, verdict.seeds_needed) == ("undecided", None)
    assert "more items" in (verdict.reason or "")


def test_tables_that_cannot_be_compared_are_refused() -> None:
    first, second = arms(3)
    with pytest.raises(ValueError, match="same items"):
        judge(first, replace(second, values=second.values[:, 1:]), Rule(margin=0.02))
    with pytest.raises(ValueError, match="finite"):
        judge(first, replace(second, values=second.values * math.nan), Rule(margin=0.02))
    with pytest.raises(ValueError, match="planned seeds"):
        judge(first, replace(second, planned=(0, 1)), Rule(margin=0.02))
    with pytest.raises(ValueError, match="a: a seed must be there once, got 0, 1, 1"):
        judge(replace(first, seeds=(0, 1, 1)), second, Rule(margin=0.02))
    for values in (first.values[0], [[0.1, 0.2], [0.3]], np.full(first.values.shape, "0.5")):
        with pytest.raises(ValueError, match="a: values must be"):
            judge(replace(first, values=cast("FloatArray", values)), second, Rule(margin=0.02))


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_, list])
def test_tables_of_integers_booleans_and_lists_are_judged_as_the_same_floats(
    num_seeds: int, kind: type
) -> None:
    cell = Cell(num_seeds, 80, 0.02, 0.1, "binary", "normal", 0.0)
    first, second = cell.draw(1, difference=-0.2)
    seeds = tuple(range(num_seeds))
    floats = [Scores(name, seeds, seeds, one[0]) for name, one in (("a", first), ("b", second))]
    others = [
        replace(arm, values=arm.values.tolist() if kind is list else arm.values.astype(kind))
        for arm in floats
    ]
    assert judge(others[0], others[1], Rule(margin=0.02)) == judge(floats[0], floats[1], Rule(margin=0.02))


@pytest.mark.parametrize("rule", [{"margin": value} for value in (0.0, -1.0, math.inf, math.nan)])
def test_a_margin_that_is_no_finite_number_above_zero_is_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="margin: must be a finite number above 0"):
        judge(*arms(3), Rule(**rule))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -0.1, math.nan])
def test_an_alpha_outside_of_0_to_one_half_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha: must be between 0 and 0\.5"):
        judge(*arms(3), Rule(margin=0.02, alpha=alpha))
