"""The sentences that follow mechanically from a verdict and the costs. Plain text, for the page and the terminal."""

from __future__ import annotations

from harness.config import Decision
from harness.metrics import metric
from harness.numbers import interval, with_interval
from harness.summary_schema import CostRatio, Summary
from harness.verdict import EQUIVALENT, INCOMPLETE, MIN_SEEDS, UNDECIDED, Verdict

COST_WORDS = {
    "train_seconds": "the training time",
    "peak_memory_bytes": "the peak memory",
    "money": "the money",
}
NO_RATIO = "the cost ratio was not measured"
NO_DOUBT = "none of the rules of docs/reading-a-report.md applies"


def verdict_lines(summary: Summary) -> list[str]:
    """Three lines: the outcome with size and cost; the recommendation; the strongest reason to doubt it."""
    doubt = summary.doubts[0] if summary.doubts else NO_DOUBT
    return [
        f"Verdict: {_outcome(summary)} {_ratio_text(summary, summary.verdict.cost_ratio)}",
        f"Recommendation: {summary.verdict.recommendation}",
        f"Strongest reason to doubt: {doubt}.",
    ]


def recommendation(verdict: Verdict, decision: Decision, ratio: CostRatio | None) -> str:
    """What to do, each clause tied to the outcome or to the cost.

    Args:
        verdict: On the primary metric.
        decision: The declared rule.
        ratio: Cost of the first arm over the second, in the declared cost.
    """
    first, second = decision.compare
    if verdict.outcome == EQUIVALENT:
        return _cheaper(decision, ratio)
    if verdict.outcome == UNDECIDED:
        return _undecided(verdict)
    if verdict.outcome == INCOMPLETE:
        if verdict.num_seeds and verdict.num_seeds < MIN_SEEDS and "failures" not in (verdict.reason or ""):
            return "do not decide yet; run the comparison with more seeds (--seeds 5)."
        return "do not decide yet; run the same command again, which repeats only what failed or is missing."
    winner = verdict.outcome
    loser = second if winner == first else first
    turned = _turned(ratio, inverse=winner == second)
    if turned is None:
        return f"train {winner}; {NO_RATIO}."
    return f"train {winner}: better on {decision.metric}, at {_times(turned)} of {loser}."


def _outcome(summary: Summary) -> str:
    verdict = summary.verdict
    first, second = verdict.compare
    metric_name = verdict.metric
    if verdict.outcome == EQUIVALENT:
        said = f"{first} and {second} are equivalent on {metric_name} within {verdict.margin:g}"
    elif verdict.outcome == UNDECIDED:
        said = f"undecided between {first} and {second} on {metric_name}"
    elif verdict.outcome == INCOMPLETE:
        said = f"incomplete, so no verdict on {first} against {second}"
    else:
        loser = second if verdict.outcome == first else first
        said = f"{verdict.outcome} is better than {loser} on {metric_name}"
    reason = f" ({verdict.reason})" if verdict.reason else ""
    return f"{said}{reason}: {difference_text(summary)}."


def difference_text(summary: Summary) -> str:
    """The difference with its interval and n, in words."""
    verdict = summary.verdict
    first, second = verdict.compare
    if verdict.difference is None:
        return "no difference measured"
    lower = metric(verdict.metric).direction == "lower"
    subtraction = f"{second} minus {first}, as lower is better," if lower else f"{first} minus {second}"
    value = with_interval(verdict.difference, verdict.low, verdict.high, signed=True)
    size = f"{verdict.num_seeds} seed{'s' * (verdict.num_seeds != 1)}, {verdict.num_items} items"
    if verdict.low is None:
        return f"{subtraction} {value}, no interval for other seeds ({size})"
    level = f"{100 * (1 - verdict.alpha):g} %"
    return (
        f"{subtraction} {value}, {level} interval {interval(verdict.low, verdict.high, signed=True)} ({size})"
    )


def ratio_texts(summary: Summary) -> list[str]:
    """A sentence for each cost in which the two arms of the verdict were compared."""
    return [_ratio_text(summary, ratio) for ratio in summary.cost_ratios]


def _ratio_text(summary: Summary, ratio: CostRatio | None) -> str:
    first, second = summary.verdict.compare
    if ratio is None:
        return f"{NO_RATIO.capitalize()}."
    return f"{first} took {_times(ratio)} of {second}."


def _times(ratio: CostRatio) -> str:
    span = "" if ratio.low is None else f" ({interval(ratio.low, ratio.high)}; {ratio.num_seeds} seeds)"
    return f"{with_interval(ratio.ratio, ratio.low, ratio.high)} times{span} {COST_WORDS[ratio.quantity]}"


def _turned(ratio: CostRatio | None, *, inverse: bool) -> CostRatio | None:
    if ratio is None or not inverse:
        return ratio
    low, high = (None if value is None else 1 / value for value in (ratio.high, ratio.low))
    return ratio.model_copy(update={"ratio": 1 / ratio.ratio, "low": low, "high": high})


def _cheaper(decision: Decision, ratio: CostRatio | None) -> str:
    first, second = decision.compare
    within = f"equivalent within {decision.margin:g} on {decision.metric}"
    if ratio is None or ratio.low is None or ratio.high is None:
        return f"either of them: {within}; {NO_RATIO} over several seeds."
    if ratio.low <= 1 <= ratio.high:
        return f"either of them: {within}, and no difference in {COST_WORDS[ratio.quantity]} was detected."
    winner, loser = (first, second) if ratio.ratio < 1 else (second, first)
    turned = _turned(ratio, inverse=winner == second)
    assert turned is not None
    return f"train {winner}: {within}, at {_times(turned)} of {loser}."


def _undecided(verdict: Verdict) -> str:
    if verdict.seeds_needed is None:
        return f"do not decide by these numbers: {verdict.reason}."
    low, high = verdict.seeds_needed
    span = f"{low} to {high}" if high > low else f"{low}"
    return (
        f"do not decide by these numbers; about {span} seeds would show a difference of the margin "
        f"(--seeds {high}; there are {verdict.num_seeds})."
    )
