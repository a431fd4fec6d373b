"""The three lines and the advice, by rule, from verdict, controls and costs. Each clause stands on one number."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import Decision
from harness.contrasts import FEW_SEEDS
from harness.cost_schema import CostRatio
from harness.sentences import (
    MODEL_WORDS,
    NO_RATIO,
    RULE_WORDS,
    SIDE_BY_SIDE,
    contrast_text,
    cost_words,
    difference_text,
    inverted,
    outcome_text,
    ratio_text,
    times_text,
)
from harness.summary_schema import Contrast, Summary
from harness.verdict import EQUIVALENT, INCOMPLETE, MIN_SEEDS, UNDECIDED, UNFAIR, Verdict

ADVICE = {"sft": "train SFT alone", "base": "keep the base"}  # where neither arm beats this control alone
NO_DOUBT = "none of the rules of docs/reading-a-report.md applies"
# Judging the seeds that are there again, with more added, would be a look that the rule does not have.
FRESH_SEEDS = "seeds that were not seen yet, in a comparison of their own (first_seed)"


def verdict_lines(summary: Summary) -> list[str]:
    """Three lines: the outcome with size and cost; the recommendation; the strongest reason to doubt it."""
    doubt = summary.doubts[0] if summary.doubts else NO_DOUBT
    return [
        f"Verdict: {_first_line(summary)}",
        f"Recommendation: {summary.verdict.recommendation}",
        f"Strongest reason to doubt: {doubt}.",
    ]


def _first_line(summary: Summary) -> str:
    verdict = summary.verdict
    judged = f"{outcome_text(summary)}: {difference_text(summary)}."
    judged = f"{judged} {ratio_text(summary, verdict.cost_ratio)}"
    unproven = unproven_against(summary.baselines, verdict.compare)
    if unproven and verdict.outcome not in (INCOMPLETE, UNFAIR):
        claims = "; ".join(
            _claim(verdict.metric, verdict.margin, control, both) for control, both in unproven.items()
        )
        judged = f"{claims}. Between the arms: {judged}"
    if summary.rule is not None and summary.rule.status == "after_data":
        return f"by a rule {RULE_WORDS['after_data']}: {judged}"
    return judged


def _claim(metric: str, margin: float, control: str, both: list[Contrast]) -> str:
    shown = "; ".join(contrast_text(each) for each in both)
    words = MODEL_WORDS[control]
    if is_below(both, margin):
        return f"neither arm beats {words} on {metric} by the margin of {margin:g} ({shown})"
    return f"neither arm was shown to beat {words} on {metric} ({shown})"


def recommendation(
    verdict: Verdict,
    decision: Decision,
    ratio: CostRatio | None,
    baselines: list[Contrast],
    *,
    failed: bool = False,
    missing: bool = False,
    left_out: Sequence[str] = (),
) -> str:
    """What to do, each clause tied to the outcome, to a control or to the cost.

    Args:
        verdict: On the primary metric.
        decision: The declared rule.
        ratio: Cost of the first arm over the second, in the declared cost.
        baselines: Arms against the controls.
        failed: Whether a stage failed.
        missing: Whether a stage was not run, or failed.
        left_out: Compared arms that the run was told to leave out.
    """
    if verdict.outcome == INCOMPLETE:
        return f"do not decide yet; {_what_is_missing(verdict, failed, missing, left_out)}."
    if verdict.outcome == UNFAIR:
        return f"do not decide by these numbers: the audit did not find the arms treated alike ({verdict.reason})."
    unproven = unproven_against(baselines, decision.compare)
    if unproven:
        return _neither(verdict, decision, unproven)
    if verdict.outcome == UNDECIDED:
        return _undecided(verdict, decision)
    if verdict.outcome == EQUIVALENT:
        return _equivalent(decision, ratio, baselines)
    first, second = decision.compare
    winner = verdict.outcome
    loser = second if winner == first else first
    over = inverted(ratio) if ratio and winner == second else ratio
    cost = NO_RATIO if over is None else f"at {times_text(over)} of {loser}"
    limited = f" ({verdict.reason})" if verdict.reason else ""
    return f"train {winner}: better on {decision.metric}{limited}, {cost}{_not_shown(winner, baselines)}."


def _what_is_missing(verdict: Verdict, failed: bool, missing: bool, left_out: Sequence[str]) -> str:
    if failed:
        return (
            "do what is advised under Failures, then run the same command again, which repeats only what failed or is "
            "missing"
        )
    if missing:
        return "run the same command again, which runs only what is missing"
    if left_out:
        return f"{' and '.join(left_out)} was left out: run the same command without --arm"
    if 0 < verdict.num_seeds < MIN_SEEDS:
        return "run the comparison with more seeds (--seeds 5)"
    return "evaluate on more test pairs (more rows, data.test_share, data.max_test_pairs, the evaluation's max_items)"


def unproven_against(baselines: list[Contrast], compare: tuple[str, str]) -> dict[str, list[Contrast]]:
    """Controls that neither compared arm was shown to beat, each with both arms against it."""
    unproven = {}
    for control in MODEL_WORDS:
        found = [each for each in baselines if each.pair[1] == control and each.pair[0] in compare]
        # With a single seed of the control nothing was tested: its failures are no finding about the arms.
        tested = any(each.reason != FEW_SEEDS for each in found)
        if len(found) == len(compare) and tested and not any(is_better(each) for each in found):
            unproven[control] = found
    return unproven


def is_better(contrast: Contrast) -> bool:
    """Whether the first model was shown to be better than the second."""
    return contrast.detected and contrast.difference > 0


def is_below(contrasts: list[Contrast], margin: float) -> bool:
    """Whether it was shown that no first model is better than the second by as much as the margin."""
    return all(each.high is not None and each.reason is None and each.high < margin for each in contrasts)


def _neither(verdict: Verdict, decision: Decision, unproven: dict[str, list[Contrast]]) -> str:
    words = " or ".join(MODEL_WORDS[control] for control in unproven)
    between = (
        "" if verdict.outcome in (UNDECIDED, EQUIVALENT) else f"; {verdict.outcome} is the better of them"
    )
    if all(is_below(both, decision.margin) for both in unproven.values()):
        # With both, SFT alone may be worse than the base: nothing here says which of them to take.
        advice = "train neither arm" if len(unproven) > 1 else ADVICE[next(iter(unproven))]
        return f"{advice}: neither arm beats {words} by the margin of {decision.margin:g} on {decision.metric}{between}."
    more = (
        f"; {_seeds_clause(verdict, decision)}"
        if verdict.outcome == UNDECIDED and verdict.seeds_needed
        else ""
    )
    return (
        f"do not train either arm by these numbers: neither was shown to beat {words} on "
        f"{decision.metric}{between}{more}."
    )


def _equivalent(decision: Decision, ratio: CostRatio | None, baselines: list[Contrast]) -> str:
    first, second = decision.compare
    within = f"equivalent within {decision.margin:g} on {decision.metric}"
    if ratio is not None and ratio.relaxed:
        return f"either of them: {within}; {cost_words(ratio)} is {SIDE_BY_SIDE}, and decides nothing."
    if ratio is None or ratio.low is None or ratio.high is None:
        return f"either of them: {within}; {NO_RATIO} over several seeds."
    if ratio.low <= 1 <= ratio.high:
        words = cost_words(ratio)
        return (
            f"either of them: {within}, and no difference in {words} was detected at {ratio.num_seeds} seeds."
        )
    winner, loser = (first, second) if ratio.ratio < 1 else (second, first)
    over = ratio if winner == first else inverted(ratio)
    return f"train {winner}: {within}, at {times_text(over)} of {loser}{_not_shown(winner, baselines)}."


def _not_shown(arm: str, baselines: list[Contrast]) -> str:
    """A clause for each control that the arm was not shown to beat."""
    clauses = (
        f"; it is worse than {MODEL_WORDS[each.pair[1]]} ({contrast_text(each)})"
        if each.detected
        else f"; that it beats {MODEL_WORDS[each.pair[1]]} was not shown ({contrast_text(each)})"
        for each in baselines
        if each.pair[0] == arm and not is_better(each)
    )
    return "".join(clauses)


def _undecided(verdict: Verdict, decision: Decision) -> str:
    advice = _seeds_clause(verdict, decision) if verdict.seeds_needed else verdict.reason
    return f"do not decide by these numbers; {advice}."


def _seeds_clause(verdict: Verdict, decision: Decision) -> str:
    assert verdict.seeds_needed is not None
    low, high = verdict.seeds_needed
    span = f"{low} to {high}" if high > low else f"{low}"
    shown = "would show a difference of the margin between the arms four times of five"
    if decision.looks == 1:
        return f"about {span} {FRESH_SEEDS}, {shown}"
    if verdict.num_seeds > MIN_SEEDS:
        return f"the rule has no look left: about {span} {FRESH_SEEDS}, {shown}"
    return f"about {span} seeds {shown} (the second and last look, which --until-decided makes; there are {verdict.num_seeds})"
