"""Comparisons beside the verdict: Holm, other arms, and arms against the controls."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness import contrasts
from harness.plan import read_plan
from harness.recommendation import verdict_lines
from harness.records import ITEMS, RECORD
from harness.report.page import Code, Section, Table
from harness.report.quality import quality_section
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary, summarise
from harness.verdict import SAME_SCORES
from tests.harness.fixtures_results import LEVELS, Run, make_results
from tests.harness.test_summary import items_of

THIRD_ARM = {
    "arms": {
        "orpo": [{"trainer": "orpo"}],
        "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}],
        "dpo-alone": [{"trainer": "dpo"}],
    }
}


def holm(p_values: list[float]) -> list[float]:
    """By statsmodels."""
    return [float(value) for value in multipletests(p_values, method="holm")[1]]


def test_holm_is_statsmodels_also_with_ties_and_at_the_ends() -> None:
    random = np.random.default_rng(0)
    families = [
        random.uniform(0, scale, count).tolist() for scale in (0.01, 0.1, 1) for count in (1, 2, 7, 40)
    ]
    for family in [*families, [0.0, 1.0], [0.02] * 5, [0.5, 0.01, 0.01, 0.04]]:
        assert contrasts.holm(family) == pytest.approx(holm(family), abs=1e-15)
    assert contrasts.holm([]) == []


def test_the_other_metrics_are_one_family_with_holms_correction(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=5)))
    names = [contrast.metric for contrast in summary.secondary]
    assert names == [
        "preference_accuracy",
        "chosen_nll",
        "reply_length_tokens",
        "stopped_share",
        "benchmark_toy_task",
    ]
    tested = [contrast for contrast in summary.secondary if contrast.p_value is not None]
    assert len(tested) == 3  # the made-up replies all have one length, and all stop
    expected = holm([contrast.p_value for contrast in tested if contrast.p_value is not None])
    assert [contrast.p_holm for contrast in tested] == pytest.approx(expected)
    assert [contrast.detected for contrast in tested] == [p <= 0.05 for p in expected]
    for contrast in summary.secondary:
        if contrast not in tested:
            assert (contrast.p_holm, contrast.detected, contrast.detectable) == (None, False, None)
            assert contrast.reason == SAME_SCORES


def test_a_difference_that_no_seed_varies_has_no_interval_for_other_seeds(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=3))
    plan = read_plan(folder)
    for trial in plan.trials:
        first = next(one for one in plan.trials if one.name == trial.name)
        for stage_id, source in zip(trial.evaluations, first.evaluations, strict=True):
            if stage_id != source:
                (folder / stage_id / ITEMS).write_text((folder / source / ITEMS).read_text())
                record, of_first = (
                    json.loads((folder / one / RECORD).read_text()) for one in (stage_id, source)
                )
                (folder / stage_id / RECORD).write_text(json.dumps(record | {"outcome": of_first["outcome"]}))
    for contrast in summarise(folder).baselines:
        assert contrast.reason is not None
        assert "nothing can be said of other seeds" in contrast.reason
        assert (contrast.low, contrast.high, contrast.detected) == (None, None, False)


def test_lower_is_better_is_turned_in_secondary_metrics(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=5)))
    nll = next(contrast for contrast in summary.secondary if contrast.metric == "chosen_nll")
    means = {arm: summary.arms[arm].metrics["chosen_nll"].mean for arm in summary.arms}
    assert nll.difference == pytest.approx(means["sft-dpo"] - means["orpo"])


def test_a_third_arm_is_compared_with_both_declared_ones_on_the_primary_metric(tmp_path: Path) -> None:
    levels = LEVELS | {"dpo-alone": 0.6}
    summary = summarise(make_results(tmp_path, Run(seeds=5, levels=levels, changes=THIRD_ARM)))
    found = [contrast for contrast in summary.secondary if contrast.metric == "gold_score"]
    assert [contrast.pair for contrast in found] == [("dpo-alone", "orpo"), ("dpo-alone", "sft-dpo")]
    assert all(contrast.detected and contrast.difference < -0.1 for contrast in found)


def test_two_arms_of_which_neither_is_declared_are_compared_in_the_same_family(tmp_path: Path) -> None:
    arms = THIRD_ARM["arms"] | {"orpo-late": [{"trainer": "sft"}, {"trainer": "orpo"}]}
    levels = LEVELS | {"dpo-alone": 0.6, "orpo-late": 0.8}
    summary = summarise(make_results(tmp_path, Run(seeds=5, levels=levels, changes={"arms": arms})))
    on_score = [contrast for contrast in summary.secondary if contrast.metric == "gold_score"]
    pairs = {frozenset(contrast.pair) for contrast in on_score} | {frozenset(("orpo", "sft-dpo"))}
    assert pairs == {frozenset(pair) for pair in combinations(arms, 2)}
    assert len(on_score) == 5  # each once, and the declared one is in no family
    found = next(contrast for contrast in on_score if contrast.pair == ("dpo-alone", "orpo-late"))
    assert found.detected
    assert found.difference < -0.1
    tested = [contrast for contrast in summary.secondary if contrast.p_value is not None]
    expected = holm([contrast.p_value for contrast in tested if contrast.p_value is not None])
    assert [contrast.p_holm for contrast in tested] == pytest.approx(expected)


def test_against_a_base_that_all_seeds_share_only_the_arms_seeds_vary(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    found = next(each for each in summarise(folder).baselines if each.pair == ("orpo", "base"))
    base = items_of(folder, "base", None, "gold_score")
    table = np.array([items_of(folder, "orpo", seed, "gold_score") - base for seed in range(5)])
    by_seed, by_item = table.mean(1), table.mean(0)
    residual = ((table - by_seed[:, None] - by_item[None, :] + table.mean()) ** 2).sum() / (4 * 59)
    from_items = max(by_item.var(ddof=1) - residual / 5, 0) / 60
    half = math.sqrt(
        stats.t.ppf(0.975, 4) ** 2 * by_seed.var(ddof=1) / 5 + stats.t.ppf(0.975, 59) ** 2 * from_items
    )
    assert found.difference == pytest.approx(table.mean())
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))
    assert found.detected


def test_each_compared_arm_stands_against_sft_and_base(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=5)))
    pairs = [("orpo", "sft"), ("orpo", "base"), ("sft-dpo", "sft"), ("sft-dpo", "base")]
    assert [contrast.pair for contrast in summary.baselines] == pairs
    assert {contrast.p_holm for contrast in summary.baselines} == {None}


@pytest.mark.parametrize(
    ("levels", "margin", "first_line"),
    [
        (
            {"orpo": 0.6, "sft-dpo": 0.6},
            0.02,
            "Verdict: neither arm beats SFT alone on gold_score by the margin of 0.02 ",
        ),
        (
            {"orpo": 0.7, "sft-dpo": 0.7},
            0.0001,
            "Verdict: neither arm was shown to beat SFT alone on gold_score (orpo ",
        ),
        ({"orpo": 0.8, "sft-dpo": 0.7}, 0.02, "Verdict: orpo is better than sft-dpo on gold_score"),
    ],
)
def test_that_neither_arm_beats_sft_stands_in_the_first_line(
    tmp_path: Path, levels: dict[str, float], margin: float, first_line: str
) -> None:
    run = Run(seeds=5, levels=LEVELS | levels, decision={"metric": "gold_score", "margin": margin})
    first, second, _ = verdict_lines(summarise(make_results(tmp_path, run)))
    assert first.startswith(first_line)
    if "neither" in first:
        assert "orpo minus sft" in first
        assert "sft-dpo minus sft" in first
        assert "SFT alone" in second


def test_a_single_seed_has_differences_but_nothing_detected(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=1)))
    for contrast in summary.secondary + summary.baselines:
        assert (contrast.low, contrast.p_value, contrast.detected) == (None, None, False)
        assert "2 seeds" in (contrast.reason or "")


def test_swapping_the_declared_arms_mirrors_every_number(tmp_path: Path) -> None:
    """All of summary.json: verdict, secondary metrics, cost ratios."""
    one, other = (
        summarise(
            make_results(
                tmp_path / str(place), Run(seeds=5, decision={"metric": "gold_score", "compare": compare})
            )
        )
        for place, compare in enumerate((["orpo", "sft-dpo"], ["sft-dpo", "orpo"]))
    )
    assert one.verdict.outcome == other.verdict.outcome
    assert one.verdict.difference == pytest.approx(-(other.verdict.difference or 0))
    assert one.verdict.p_value == pytest.approx(other.verdict.p_value)
    for mine, theirs in zip(one.secondary, other.secondary, strict=True):
        assert mine.difference == pytest.approx(-theirs.difference)
        assert mine.p_holm == pytest.approx(theirs.p_holm)
        assert mine.detected == theirs.detected
    for ratio, inverse in zip(one.cost_ratios, other.cost_ratios, strict=True):
        assert ratio.ratio * inverse.ratio == pytest.approx(1)
    assert {each.pair: each for each in one.baselines} == {each.pair: each for each in other.baselines}


def test_the_order_of_items_in_the_files_changes_nothing(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    before = summarise(folder)
    for number, stage in enumerate(read_plan(folder).stages):
        if stage.kind == "evaluate":
            path = folder / stage.id / "items.jsonl"
            lines = path.read_text().splitlines()
            np.random.default_rng(number).shuffle(lines)
            path.write_text("\n".join(lines) + "\n")
    assert summarise(folder) == before


def test_metrics_on_training_pairs_are_in_no_family(tmp_path: Path) -> None:
    folder = make_results(
        tmp_path, Run(seeds=3, groups=("preference",), decision={"metric": "preference_accuracy"})
    )
    results = read_results(folder)
    for columns in results.items.values():
        if "chosen_nll" in columns:
            columns["train_chosen_nll"] = columns["chosen_nll"]
    summary = make_summary(results)
    assert "train_chosen_nll" in summary.arms["orpo"].metrics
    assert [contrast.metric for contrast in summary.secondary] == ["chosen_nll"]
    assert "train_chosen_nll" not in [row[0] for row in _rows(quality_section(View(results, summary)))]
    assert "chosen_nll" in [row[0] for row in _rows(quality_section(View(results, summary)))]


def _rows(section: Section) -> list[list[str]]:
    return [
        [cell.text if isinstance(cell, Code) else str(cell) for cell in row]
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
    ]


def test_better_is_withheld_where_not_the_same_seeds_of_two_arms_failed(tmp_path: Path) -> None:
    run = Run(seeds=5, levels={**LEVELS, "orpo": 0.9})
    whole = make_summary(read_results(make_results(tmp_path / "whole", run)))
    failed = {("orpo", 1): ("out_of_memory", "no memory left")}
    one = make_summary(read_results(make_results(tmp_path / "one", replace(run, failed=failed))))
    assert any(each.detected for each in whole.secondary if each.pair == ("orpo", "sft-dpo"))
    assert one.verdict.outcome == "incomplete"
    for each in one.secondary:
        assert not each.detected
        assert each.reason == "failures differ between the arms: orpo lacks seed 1"
        assert each.low in (None, each.difference)  # where nothing varies at all there is nothing to withhold
    assert any(
        each.detected for each in one.baselines if each.pair[0] == "orpo"
    )  # a control is no contestant
    (claim,) = [claim for claim in one.claims if claim.name == "lands_in_one_pass"]
    assert claim.status == "cannot tell"


def test_a_claim_is_not_judged_by_the_seeds_that_an_arm_has_left(tmp_path: Path) -> None:
    run = Run(seeds=5, levels={**LEVELS, "orpo": 0.9})
    failed = {("orpo", 1): ("not_finite", "the loss is not finite")}
    told = {}
    for name, lost in (("whole", {}), ("one", failed)):
        summary = make_summary(read_results(make_results(tmp_path / name, replace(run, failed=lost))))
        told[name] = {
            (claim.status, claim.finding)
            for claim in summary.claims
            if claim.name == "no_regression_panic" and claim.case.startswith("orpo against")
        }
    assert ("holds", "ORPO gained, so there is nothing to fear") in told["whole"]
    assert told["one"] == {("cannot tell", "failures differ between the arms: orpo lacks seed 1")}


def test_a_control_that_failed_is_no_finding_about_the_arms(tmp_path: Path) -> None:
    lost = {("sft", seed): ("out_of_memory", "no memory left") for seed in (1, 2, 3, 4)}
    run = Run(seeds=5, levels={**LEVELS, "sft-dpo": 0.9, "orpo": 0.5})
    summary = make_summary(read_results(make_results(tmp_path, replace(run, failed=lost))))
    assert {each.reason for each in summary.baselines if each.pair[1] == "sft"} == {contrasts.FEW_SEEDS}
    assert "do not train either arm" not in summary.verdict.recommendation
