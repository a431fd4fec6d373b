"""Seeds and items that a margin needs: the forecast against simulated verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.plan import read_plan
from harness.power import assumed_spread, fewest_seeds, outlook, spread_of
from harness.power_table import measured, power_lines
from harness.verdict import Rule, Scores, judge
from tests.harness.configs import VALID, write
from tests.harness.fixtures_results import Run, give_prompts, make_results

RULE = Rule(margin=0.05)


def plain_scores(
    num_seeds: int,
    num_items: int,
    replications: int,
    difference: float,
    *,
    sds: tuple[float, float] = (0.02, 0.1),
    correlation: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores with the variances of `SPREAD`, made without the module under test.

    Args:
        num_seeds: Of both arms.
        num_items: Of both arms.
        replications: How many tables.
        difference: What the first arm gains on all items.
        sds: Between seeds, and of an arm's gain on single items.
        correlation: Of the arms' noise, seed and item given.
    """
    random = np.random.default_rng(8)
    tables = []
    size = (replications, num_seeds, num_items)
    items = random.normal(0, 0.2, (replications, 1, num_items))
    shared = random.normal(0, 0.3, size) if correlation else 0.0
    for shift in (difference, 0.0):
        seeds = random.normal(0, sds[0], (replications, num_seeds, 1))
        gains = random.normal(0, sds[1], (replications, 1, num_items))
        noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * random.normal(0, 0.3, size)
        tables.append(0.5 + shift + seeds + items + gains + noise)
    return tables[0], tables[1]


SPREAD = assumed_spread(seed_sd=0.02, item_sd=0.1, residual_sd=0.3, correlation=0.0)


def reached(num_seeds: int, num_items: int, **kind: Any) -> list[float]:
    """How often `better` at a true difference of the margin, and `equivalent` at none, is the verdict."""
    names = tuple(range(num_seeds))
    shares = []
    for difference, wanted in ((RULE.margin, "a"), (0.0, "equivalent")):
        first, second = plain_scores(num_seeds, num_items, 400, difference, **kind)
        outcomes = [
            judge(Scores("a", names, names, one), Scores("b", names, names, other), RULE).outcome
            for one, other in zip(first, second, strict=True)
        ]
        shares.append(outcomes.count(wanted) / len(outcomes))
    return shares


@pytest.mark.parametrize(("num_seeds", "num_items"), [(3, 100), (3, 200), (4, 100), (5, 100)])
def test_noise_that_the_arms_share_promises_no_more_than_verdicts_reach(
    num_seeds: int, num_items: int
) -> None:
    # Little of the noise is in the arms' differences, but below 5 seeds a verdict pays each arm's own.
    kind: dict[str, Any] = {"sds": (0.005, 0.02), "correlation": 0.98}
    spread = spread_of(*(table[0] for table in plain_scores(100, 400, 1, 0.0, **kind)))
    expected = outlook(spread, RULE, num_seeds=num_seeds, num_items=num_items)
    shares = reached(num_seeds, num_items, **kind)
    for share, promised in zip(shares, (expected.better, expected.equivalent), strict=True):
        assert share - 0.55 <= promised <= share + 0.12


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_interval_foretold_from_correlated_records_is_the_verdicts(num_seeds: int) -> None:
    first, second = (table[0] for table in plain_scores(num_seeds, 400, 1, 0.0, correlation=1.0))
    names = tuple(range(num_seeds))
    verdict = judge(Scores("a", names, names, first), Scores("b", names, names, second), RULE)
    assert verdict.low is not None
    assert verdict.high is not None
    expected = outlook(spread_of(first, second), RULE, num_seeds=num_seeds, num_items=400)
    # Below 5 seeds the degrees of freedom are a guess: between 2 and 4 of them the quantile is 4.3 to 2.8.
    assert expected.half_width == pytest.approx((verdict.high - verdict.low) / 2, rel=0.35)


def test_records_in_which_the_arms_do_not_differ_promise_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = plain_scores(3, 50, 1, 0.0)
    for shift in (0.0, 0.1):
        spread = spread_of(first[0], first[0] + shift)
        for num_seeds in (3, 5):
            found = outlook(spread, RULE, num_seeds=num_seeds, num_items=500)
            assert (found.better, found.equivalent) == (0, 0)
    config = str(write(tmp_path, VALID))
    assert main(["power", config, "--seed-sd", "0", "--residual-sd", "0"]) == 0
    shown = capsys.readouterr().out
    assert "no spread was assumed" in shown
    assert "equivalent" not in shown
    assert "%" not in shown
    assert list(power_lines(Run().comparison(), spread, "measured"))[1].startswith(
        "no spread in these records"
    )


@pytest.mark.parametrize(("num_seeds", "num_items"), [(3, 500), (5, 200), (5, 500), (8, 500)])
def test_the_forecast_power_is_what_simulated_verdicts_reach(num_seeds: int, num_items: int) -> None:
    expected = outlook(SPREAD, RULE, num_seeds=num_seeds, num_items=num_items)
    shares = reached(num_seeds, num_items)
    # A verdict's own variance is estimated from few seeds, which the normal approximation does not know: below five
    # seeds it promises less than verdicts reach, never more.
    for share, promised in zip(shares, (expected.better, expected.equivalent), strict=True):
        assert promised <= share + 0.12
        assert promised >= share - (0.12 if num_seeds >= 5 else 0.3)


def test_variances_are_found_again_in_scores_that_have_them() -> None:
    first, second = plain_scores(40, 400, 1, 0.0)
    found = spread_of(first[0], second[0])
    assert found.item == pytest.approx(SPREAD.item, rel=0.25)
    assert found.residual_paired == pytest.approx(SPREAD.residual_paired, rel=0.05)
    assert found.seed_paired == pytest.approx(SPREAD.seed_paired, rel=0.6)


def test_more_items_or_a_larger_margin_need_fewer_seeds_and_too_few_items_are_said() -> None:
    needed = [fewest_seeds(SPREAD, RULE, num_items=items, goal="better") for items in (200, 500, 5000)]
    assert needed == sorted(needed, reverse=True)
    assert fewest_seeds(SPREAD, Rule(margin=0.2), num_items=500, goal="better") == 3
    assert fewest_seeds(SPREAD, Rule(margin=0.005), num_items=100, goal="better") is None


def test_the_command_takes_variances_from_a_run_or_from_assumptions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write(tmp_path, VALID + "decision: {metric: gold_score, margin: 0.02}\n"))
    folder = str(make_results(tmp_path, Run(seeds=4)))
    assert main(["power", config, "--from", folder]) == 0
    shown = capsys.readouterr().out
    assert "measured: gold_score of made-up, 4 seeds, 60 items" in shown
    assert "upper 80 % bound" in shown
    assert main(["power", config, "--seed-sd", "0.05"]) == 0
    assert "assumed: an arm's mean varies by 0.05 from seed to seed" in capsys.readouterr().out
    assert main(["power", config, "--seed-sd", "-1"]) == 2
    assert "--seed-sd: must be a number from 0 to 1e+06" in capsys.readouterr().err
    assert main(["power", config, "--from", str(tmp_path)]) == 2
    assert "must be a folder that `prefduel run` made" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seed-sd", "--item-sd", "--residual-sd"])
@pytest.mark.parametrize("value", ["1e200", "inf", "nan"])
def test_an_assumption_beyond_any_metric_is_one_line(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", str(write(tmp_path)), option, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{option}: must be a number from 0 to 1e+06, in the metric's unit, got ")


def test_the_largest_assumption_still_has_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sds = ["--seed-sd", "1e6", "--item-sd", "1e6", "--residual-sd", "1e6"]
    assert main(["power", str(write(tmp_path)), *sds, "--correlation", "-1"]) == 0
    assert "more items" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--seed-sd", "--item-sd", "--residual-sd", "--correlation"])
def test_what_is_measured_is_not_assumed_as_well(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", str(write(tmp_path)), "--from", str(tmp_path), option, "0.1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"so nothing is assumed; leave {option} out.")


def test_items_from_one_prompt_are_averaged_as_the_verdict_does(tmp_path: Path) -> None:
    run = Run(seeds=4)
    folder = make_results(tmp_path, run)
    tables = score_tables_of(folder)
    give_prompts(folder, lambda place: place // 5)
    spread, source = measured(run.comparison(), folder)
    averaged = [table.reshape(4, 12, 5).mean(2) for table in tables]
    expected, ignored = spread_of(*averaged), spread_of(*tables)
    assert spread.residual_paired == pytest.approx(expected.residual_paired, rel=1e-9)
    assert spread.residual_paired < ignored.residual_paired / 2
    assert spread.item == pytest.approx(expected.item, rel=1e-9, abs=1e-12)
    assert source.endswith("4 seeds, 12 items (averages by prompt of 60)")


def score_tables_of(folder: Path) -> list[np.ndarray]:
    """Gold scores of both arms, (seeds, items), read without the module under test."""
    tables = []
    for arm in ("orpo", "sft-dpo"):
        trials = sorted(
            (trial for trial in read_plan(folder).trials if trial.name == arm),
            key=lambda trial: trial.seed or 0,
        )
        scores = []
        for trial in trials:
            texts = [(folder / stage_id / "items.jsonl").read_text() for stage_id in trial.evaluations]
            rows = [json.loads(line) for text in texts for line in text.splitlines()]
            scores.append([row["gold_score"] for row in rows if "gold_score" in row])
        tables.append(np.array(scores))
    return tables


def test_items_of_a_single_prompt_say_nothing_of_others(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run())
    give_prompts(folder, lambda _place: 0)
    with pytest.raises(UserError, match="2 seeds and 2 items that both arms were measured on, got 3 and 1"):
        measured(Run().comparison(), folder)


def test_a_rule_with_two_looks_is_planned_at_the_alpha_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for rule in ("alpha: 0.05, looks: 2", "alpha: 0.025", "alpha: 0.05"):
        text = f"decision: {{metric: gold_score, margin: 0.05, {rule}}}\n"
        assert main(["power", str(write(tmp_path, VALID + text))]) == 0
        shown.append(capsys.readouterr().out.splitlines())
    assert "alpha 0.025 at each of 2 looks" in shown[0][0]
    assert shown[0][1:] == shown[1][1:] != shown[2][1:]
