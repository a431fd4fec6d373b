"""What was lost from station to station, and what lies behind the preference metrics: on the page as in the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.diagnostics_schema import (
    BatchNoise,
    Calibration,
    NearTies,
    PreferenceDiagnostics,
    ReliabilityBin,
    StationLikelihood,
)
from harness.helpers import NOBODY
from harness.report.drawing import drawn
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.page import Block, Bullets, Figure, Page, Paragraph, Section, Table
from harness.report.quality import lost_section, quality_section
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from harness.summary_schema import StationChange
from tests.harness.fixtures_results import Run, make_results


def view_of(tmp_path: Path, run: Run | None = None, **changes: object) -> View:
    results = read_results(make_results(tmp_path, run))
    return View(results, make_summary(results).model_copy(update=changes))


def change(metric: str = "chosen_nll", **values: object) -> StationChange:
    usual = {
        "before": "sft", "after": "sft-dpo", "metric": metric, "before_mean": 1.2, "after_mean": 1.5, "difference": 0.3,
        "low": 0.2, "high": 0.4, "worse": True, "num_seeds": 5, "num_items": 60,
    }  # fmt: skip
    return StationChange.model_validate(usual | values)


def markdown(section: Section) -> str:
    return render_markdown(Page("page", "page", [], [section])).replace("\\", "")


def table_with(section: Section, head: str) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table) and block.head[0] == head)


def answers(section: Section) -> str:
    return "".join(
        render_markdown(Page("page", "page", [], [Section("answers", [block])])).replace("\\", "")
        for block in section.blocks
        if isinstance(block, Bullets)
    )


def test_the_page_says_whether_sft_regressed_and_by_how_much(tmp_path: Path) -> None:
    changes = [
        change(),
        change("benchmark_toy_task", difference=0.01, low=-0.02, high=0.04, worse=False),
        change("chosen_nll", before="base", after="sft", worse=True),
    ]
    section = lost_section(view_of(tmp_path, changes=changes))
    told = answers(section)
    assert (
        "Did sft regress in sft-dpo? Yes, it is worse on `chosen_nll` (+0.30, +0.20 to +0.40; 5 seeds, 60 items)."
        in told
    )
    assert (
        "Not shown to be worse on `benchmark_toy_task` (+0.010, -0.020 to +0.040; 5 seeds, 60 items)." in told
    )
    assert "base regress" not in told


def test_every_change_of_a_metric_that_may_be_lost_has_a_row_with_its_direction(tmp_path: Path) -> None:
    changes = [
        change(),
        change(difference=-0.3, low=-0.4, high=-0.2, worse=False),
        change("benchmark_toy_task", difference=-0.3, low=-0.4, high=-0.2, worse=True),
        change("benchmark_toy_task", difference=0.3, low=-0.1, high=0.7, worse=False),
        change("gold_score"),  # quality, not loss
        change("stopped_share", difference=0.0, low=0.0, high=0.0, worse=False),
    ]
    section = lost_section(view_of(tmp_path, changes=changes))
    assert [row[6] for row in table_with(section, "from and to").rows] == [
        "worse", "better", "worse", "no change detected",
    ]  # fmt: skip
    assert any(
        isinstance(block, Paragraph) and block.text == "Not listed, without a change in any seed: 1."
        for block in section.blocks
    )


def test_with_one_seed_nothing_is_called_worse(tmp_path: Path) -> None:
    section = lost_section(view_of(tmp_path, Run(seeds=1)))
    assert "regress in sft-dpo? Without an interval, on" in answers(section)
    assert {row[6] for row in table_with(section, "from and to").rows} == {"no interval"}


def test_without_sft_as_a_control_the_question_is_not_answered(tmp_path: Path) -> None:
    section = lost_section(view_of(tmp_path, Run(changes={"controls": ["base"]})))
    assert "Not measured: it needs `controls: [sft]`" in markdown(section)
    assert "regress in" not in answers(section)


def test_the_likelihood_of_both_replies_at_each_station_is_told_of_the_test_pairs(tmp_path: Path) -> None:
    shift = {"mean": -0.4, "low": -0.5, "high": -0.3}
    sft, orpo = (
        StationLikelihood.model_validate(
            {
                "model": name,
                "chosen": shift,
                "rejected": {"mean": -1, "low": -1.2, "high": -0.8},
                "margin": {"mean": 0.6, "low": 0.5, "high": 0.7},
                "displaced": displaced,
                "num_seeds": 3,
                "num_items": 60,
            }
        )
        for name, displaced in (("sft", None), ("orpo", True))
    )
    section = lost_section(view_of(tmp_path, likelihoods=[sft, orpo]))
    rows = {row[0]: row for row in table_with(section, "model").rows}
    assert list(rows) == ["base", "sft", "orpo"]
    assert rows["orpo"][1:] == [
        "-0.40 (-0.50 to -0.30)", "-1.00 (-1.20 to -0.80)", "+0.60 (+0.50 to +0.70)", "yes", "3 x 60",
    ]  # fmt: skip
    assert rows["sft"][4] == "no interval"
    assert "On the test pairs, which no look during training saw" in markdown(section)


def of_seed(seed: int, shift: float) -> PreferenceDiagnostics:
    bins = [
        ReliabilityBin(low=0.5, num_pairs=10 * (seed + 1), confidence=0.52, accuracy=0.6 + shift),
        ReliabilityBin(low=0.9, num_pairs=5, confidence=0.93, accuracy=0.8),
    ]
    return PreferenceDiagnostics(
        seed=seed,
        num_pairs=60,
        margin_length_correlation=0.2 + shift,
        calibration=[Calibration(reward="log_odds_margin", expected_error=0.1 + shift, bins=bins)],
        train_test_gap={"preference_accuracy": 0.05 + shift},
    )


@pytest.fixture
def diagnosed(tmp_path: Path) -> View:
    view = view_of(tmp_path)
    arms = {
        name: model.model_copy(update={"diagnostics": [of_seed(seed, seed / 10) for seed in (0, 1)]})
        for name, model in view.summary.arms.items()
    }
    return View(view.results, view.summary.model_copy(update={"arms": arms}))


def test_length_calibration_and_overfitting_of_each_model_are_on_the_page(diagnosed: View) -> None:
    section = quality_section(diagnosed)
    rows = {row[0]: row for row in table_with(section, "model").rows}
    assert rows["orpo"][1:] == ["2 x 60", "0.250 (0.200 to 0.300)", "none", "0.150 (0.100 to 0.200)", "none"]
    assert set(rows) == {"orpo", "sft-dpo"}
    (gap,) = table_with(section, "gap of").rows
    assert gap[1:] == ["+0.100 (+0.0500 to +0.150)"] * 2


def test_the_reliability_curve_counts_each_pair_of_all_seeds_once(diagnosed: View) -> None:
    (figure,) = [
        block
        for block in quality_section(diagnosed).blocks
        if isinstance(block, Figure) and block.stem == "reliability"
    ]
    # Seed 0: 10 pairs at .6; seed 1: 20 at .7.
    expected = (10 * 0.6 + 20 * 0.7) / 30
    assert f"log_odds_margin: orpo {expected:.3f} (30) to 0.800 at 0.930 (10)" in figure.alt
    assert "(n = 2 seeds, 60 pairs each)" in figure.caption


def test_both_formats_show_what_the_diagnostics_say(diagnosed: View) -> None:
    sections: list[Section] = [quality_section(diagnosed), lost_section(diagnosed)]
    page = Page("page", "page", [], sections)
    for text in (render_markdown(page), render_html(page, drawn(page.figures(), NOBODY))):
        for words in (
            "Length, calibration, overfitting",
            "0.250 (0.200 to 0.300)",
            "From station to station",
        ):
            assert words in text


def test_where_no_pair_was_scored_nothing_is_said_of_calibration(tmp_path: Path) -> None:
    blocks: list[Block] = list(quality_section(view_of(tmp_path, Run(groups=("generation",)))).blocks)
    assert not [block for block in blocks if isinstance(block, Figure) and block.stem == "reliability"]


def test_overfitting_that_was_not_measured_is_said(diagnosed: View) -> None:
    arms = {
        name: model.model_copy(
            update={
                "diagnostics": [one.model_copy(update={"train_test_gap": {}}) for one in model.diagnostics]
            }
        )
        for name, model in diagnosed.summary.arms.items()
    }
    view = View(diagnosed.results, diagnosed.summary.model_copy(update={"arms": arms}))
    assert "Overfitting: not measured, the config has no `evaluations.preference.train_items`" in markdown(
        quality_section(view)
    )


def test_how_exact_the_numbers_are_is_on_the_page(diagnosed: View) -> None:
    noise = BatchNoise(
        sizes=[1, 4], num_pairs=32, largest_margin_change=0.02, mean_margin_spread=0.003, accuracy_spread=0
    )
    arms = {
        name: model.model_copy(
            update={
                "near_ties": NearTies(num_places=3, num_tokens=1200, num_replies=2),
                "diagnostics": [one.model_copy(update={"noise": noise}) for one in model.diagnostics],
            }
        )
        for name, model in diagnosed.summary.arms.items()
    }
    view = View(diagnosed.results, diagnosed.summary.model_copy(update={"arms": arms}))
    text = markdown(quality_section(view))
    assert (
        "Near ties in greedy replies: orpo 3 of 1,200 places, in 2 replies; sft-dpo 3 of 1,200 places" in text
    )
    assert "Evaluation noise of orpo, over batches of 1, 4 and the config's size, on 32 pairs" in text
    assert "How exact" not in markdown(quality_section(diagnosed))
