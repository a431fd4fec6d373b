"""The three lines and the advice: every outcome, and the arms against SFT alone and the base."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config import Decision
from harness.cost_schema import CostRatio
from harness.recommendation import recommendation, unproven_against
from harness.sentences import secondary_text
from harness.summary_schema import Contrast
from harness.verdict import Verdict

DECISION = Decision(metric="gold_score", margin=0.02)
CHEAP = CostRatio(quantity="train_seconds", ratio=0.5, low=0.4, high=0.6, num_seeds=5)
MEMORY = CHEAP.model_copy(update={"quantity": "peak_memory_bytes", "resident": True})
SPOILT = CHEAP.model_copy(update={"relaxed": True})


def verdict(outcome: str, **changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "outcome": outcome,
        "form": "paired",
        "difference": 0.05,
        "low": 0.01,
        "high": 0.09,
        "p_value": 0.01,
        "num_seeds": 5,
        "num_items": 200,
    }
    return Verdict(**(values | changes))


def against(arm: str, control: str, low: float, high: float, **changes: Any) -> Contrast:
    values: dict[str, Any] = {
        "metric": "gold_score",
        "pair": (arm, control),
        "direction": "higher",
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "p_value": 0.01 if low > 0 or high < 0 else 0.5,
        "p_holm": None,
        "detected": low > 0 or high < 0,
        "detectable": (high - low) / 2,
        "num_seeds": 5,
        "num_items": 200,
        "reason": None,
    }
    return Contrast(**(values | changes))


def both(low: float, high: float, control: str = "sft") -> list[Contrast]:
    return [against(arm, control, low, high) for arm in DECISION.compare]


@pytest.mark.parametrize(
    ("judged", "ratio", "controls", "advice"),
    [
        (
            verdict("orpo"),
            CHEAP,
            [],
            "train orpo: better on gold_score, at 0.50 times (0.40 to 0.60; 5 seeds) the tr",
        ),
        (
            verdict("sft-dpo"),
            CHEAP,
            [],
            "train sft-dpo: better on gold_score, at 2.00 times (1.67 to 2.50; 5 seeds)",
        ),
        (verdict("orpo"), None, [], "train orpo: better on gold_score, the cost ratio was not measured."),
        (verdict("equivalent"), CHEAP, [], "train orpo: equivalent within 0.02 on gold_score, at 0.50 times"),
        (
            verdict("equivalent"),
            MEMORY,
            [],
            "train orpo: equivalent within 0.02 on gold_score, at 0.50 times (0.40 to 0.60; 5 seeds) the peak resident memory on the",
        ),
        (
            verdict("equivalent"),
            SPOILT,
            [],
            "either of them: equivalent within 0.02 on gold_score; the training time is unreliable, as stages ran side",
        ),
        (
            verdict("sft-dpo"),
            SPOILT,
            [],
            "train sft-dpo: better on gold_score, at 2.00 times (1.67 to 2.50; 5 seeds) the training time (unreliable, as",
        ),
        (
            verdict("equivalent"),
            None,
            [],
            "either of them: equivalent within 0.02 on gold_score; the cost ratio was n",
        ),
        (
            verdict("undecided", seeds_needed=(7, 12)),
            CHEAP,
            [],
            "do not decide by these numbers; about 7 to 12 seeds",
        ),
        (
            verdict("undecided", reason="more items are needed"),
            CHEAP,
            [],
            "do not decide by these numbers; more items",
        ),
        (
            verdict("unfair", reason="budgets differ"),
            CHEAP,
            [],
            "do not decide by these numbers: the audit did not find the arms treated alike (budgets differ).",
        ),
        (
            verdict("incomplete", num_seeds=2),
            CHEAP,
            [],
            "do not decide yet; run the comparison with more seeds",
        ),
        (
            verdict("orpo"),
            CHEAP,
            both(-0.03, 0.01),
            "train SFT alone: neither arm beats SFT alone by the margin of 0.02",
        ),
        (
            verdict("orpo"),
            CHEAP,
            both(-0.03, 0.05),
            "do not train either arm by these numbers: neither was shown to b",
        ),
        (verdict("orpo"), CHEAP, both(0.01, 0.05), "train orpo: better on gold_score, at 0.50"),
        (
            verdict("orpo"),
            CHEAP,
            both(-0.09, -0.05, "base"),
            "keep the base: neither arm beats the untouched base by the margin",
        ),
        (
            verdict("equivalent"),
            CHEAP,
            both(0.01, 0.05) + both(-0.09, -0.05, "base"),
            "keep the base: neither arm beats the untouched base by the margin",
        ),
        (
            verdict("equivalent"),
            CHEAP,
            both(-0.03, 0.01) + both(-0.09, -0.05, "base"),
            "train neither arm: neither arm beats SFT alone or the untouched base by the margin of 0.02",
        ),
        (
            verdict("equivalent"),
            CHEAP,
            both(-0.03, 0.01) + both(-0.09, 0.05, "base"),
            "do not train either arm by these numbers: neither was shown to beat SFT alone or the untouched base",
        ),
    ],
    ids=lambda value: value.outcome if isinstance(value, Verdict) else None,
)
def test_the_advice_follows_from_outcome_controls_and_cost(
    judged: Verdict, ratio: CostRatio | None, controls: list[Contrast], advice: str
) -> None:
    assert recommendation(judged, DECISION, ratio, controls).startswith(advice)


@pytest.mark.parametrize(
    ("judged", "failed", "left_out", "advice"),
    [
        (verdict("incomplete", num_seeds=2), False, [], "run the comparison with more seeds"),
        (
            verdict("incomplete", reason="failures differ"),
            True,
            [],
            "do what is advised under Failures, then run the same",
        ),
        (
            verdict("incomplete", num_seeds=1),
            True,
            [],
            "do what is advised under Failures, then run the same",
        ),
        (
            verdict("incomplete", num_seeds=0),
            False,
            ["sft-dpo"],
            "sft-dpo was left out: run the same command without --arm",
        ),
        (
            verdict("incomplete", num_seeds=3, num_items=1),
            False,
            [],
            "evaluate on more test pairs (more rows",
        ),
    ],
    ids=["few seeds", "failures", "not finished", "an arm left out", "one item"],
)
def test_what_an_incomplete_comparison_needs_is_what_it_lacks(
    judged: Verdict, failed: bool, left_out: list[str], advice: str
) -> None:
    said = recommendation(judged, DECISION, CHEAP, [], failed=failed, left_out=left_out)
    assert said.startswith(f"do not decide yet; {advice}")


def test_an_equivalent_verdict_without_a_detected_cost_difference_prefers_neither() -> None:
    ratio = CHEAP.model_copy(update={"ratio": 0.9, "low": 0.7, "high": 1.2})
    advice = recommendation(verdict("equivalent"), DECISION, ratio, [])
    assert advice.startswith("either of them")
    assert "no difference in the training time was detected at 5 seeds" in advice


def test_a_winner_that_was_not_shown_to_beat_sft_says_so() -> None:
    controls = [against("orpo", "sft", -0.01, 0.05), against("sft-dpo", "sft", 0.01, 0.03)]
    advice = recommendation(verdict("orpo"), DECISION, CHEAP, controls)
    assert advice.startswith("train orpo")
    assert (
        "that it beats SFT alone was not shown (orpo minus sft +0.020, interval -0.010 to +0.050)" in advice
    )


def test_a_control_is_unproven_where_neither_arm_was_shown_to_beat_it() -> None:
    compare = DECISION.compare
    assert unproven_against([against("orpo", "sft", -0.1, 0.1)], compare) == {}
    by_base, by_sft = both(-0.1, 0.1, "base"), both(-0.1, 0.1)
    assert unproven_against(both(0.01, 0.1) + by_base, compare) == {"base": by_base}
    assert unproven_against(by_sft + both(0.1, 0.2, "base"), compare) == {"sft": by_sft}
    assert unproven_against(by_base + by_sft, compare) == {"sft": by_sft, "base": by_base}
    assert unproven_against([against("orpo", "base", 0.1, 0.2), by_base[1]], compare) == {}


def test_a_winner_that_is_worse_than_the_base_says_so() -> None:
    controls = [against("orpo", "base", -0.05, -0.01), against("sft-dpo", "base", 0.01, 0.03)]
    advice = recommendation(verdict("orpo"), DECISION, CHEAP, controls)
    assert (
        "; it is worse than the untouched base (orpo minus base -0.030, interval -0.050 to -0.010)" in advice
    )
    assert "was not shown" not in advice


def test_a_wide_interval_never_says_that_sft_is_as_good() -> None:
    advice = recommendation(verdict("undecided", seeds_needed=(7, 9)), DECISION, CHEAP, both(-0.1, 0.2))
    assert "neither was shown to beat SFT alone" in advice
    assert "7 to 9 seeds" in advice
    assert "train SFT alone" not in advice


def test_a_secondary_metric_without_a_detection_says_what_would_have_been_detected() -> None:
    text = secondary_text(against("orpo", "sft-dpo", -0.01, 0.05, p_holm=0.5, detectable=0.04))
    assert text.endswith(
        "no difference detected at this size; a true one of 0.0400 would have been, four times of five"
    )
    assert "same" not in text


def test_a_difference_that_holm_takes_back_is_said_to_be_so() -> None:
    text = secondary_text(against("orpo", "sft-dpo", 0.01, 0.05, detected=False, p_holm=0.08))
    assert text.endswith("; not detected among so many metrics, p 0.08 by Holm")


def test_more_seeds_are_advised_as_a_look_that_the_rule_has() -> None:
    judged = verdict("undecided", num_seeds=3, seeds_needed=(7, 12))
    advice = recommendation(judged, DECISION, CHEAP, [])
    assert "about 7 to 12 seeds that were not seen yet, in a comparison of their own (first_seed)" in advice
    assert "--seeds" not in advice  # as the seeds that are there would be judged again
    twice = DECISION.model_copy(update={"looks": 2})
    assert "(the second and last look, which --until-decided makes; there are 3)" in recommendation(
        judged, twice, CHEAP, []
    )
    neither = recommendation(judged, DECISION, CHEAP, both(-0.1, 0.2))
    assert "(first_seed)" in neither
    assert "--seeds" not in neither


def test_a_winner_by_less_than_the_margin_says_so_in_the_advice() -> None:
    advice = recommendation(
        verdict("orpo", reason="the estimate lies below the margin of 0.02"), DECISION, CHEAP, []
    )
    assert advice.startswith(
        "train orpo: better on gold_score (the estimate lies below the margin of 0.02), at 0.50"
    )


def test_what_was_only_not_run_needs_no_advice_but_the_same_command() -> None:
    incomplete = verdict("incomplete", num_seeds=2)
    told = recommendation(incomplete, DECISION, None, [], failed=True, missing=True)
    assert "do what is advised under Failures" in told
    told = recommendation(incomplete, DECISION, None, [], missing=True)
    assert told == "do not decide yet; run the same command again, which runs only what is missing."
