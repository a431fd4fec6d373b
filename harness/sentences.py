"""The summary's numbers as sentences, for the page and the terminal alike. Plain text; nothing is computed here."""

from __future__ import annotations

from harness.cost_schema import CostRatio
from harness.metrics import metric
from harness.numbers import interval, number, p_text, ratio_with_interval, with_interval
from harness.summary_schema import AAControl, Contrast, Summary
from harness.verdict import EQUIVALENT, INCOMPLETE, UNDECIDED, UNFAIR

COST_WORDS = {
    "train_seconds": "the training time",
    "total_seconds": "the time from process start to record, less looks at validation pairs",
    "peak_memory_bytes": "the peak memory",
    "peak_device_memory_bytes": "the device's own peak memory",
    "num_policy_tokens": "the tokens through the policy",
    "energy_joules": "the energy of the GPU",
    "money": "the money",
}
MODEL_WORDS = {"sft": "SFT alone", "base": "the untouched base"}  # controls, the one that matters most first
RULE_WORDS = {
    "declared": "declared before the data were seen",
    "after_data": "decided after the data were seen",
    "unknown": "when it was declared was not kept",
}
RESIDENT = "the peak resident memory on the CPU"
SIDE_BY_SIDE = "unreliable, as stages ran side by side (metering: relaxed)"
NO_RATIO = "the cost ratio was not measured"


def outcome_text(summary: Summary) -> str:
    """The outcome in a clause, with its reason."""
    verdict = summary.verdict
    first, second = verdict.compare
    if verdict.outcome == EQUIVALENT:
        said = f"{first} and {second} are equivalent on {verdict.metric} within {verdict.margin:g}"
    elif verdict.outcome == UNDECIDED:
        said = f"undecided between {first} and {second} on {verdict.metric}"
    elif verdict.outcome == INCOMPLETE:
        said = f"incomplete, so no verdict on {first} against {second}"
    elif verdict.outcome == UNFAIR:
        said = f"unfair, so no verdict on {first} against {second}"
    else:
        loser = second if verdict.outcome == first else first
        said = f"{verdict.outcome} is better than {loser} on {verdict.metric}"
    return f"{said} ({verdict.reason})" if verdict.reason else said


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


def contrast_text(contrast: Contrast) -> str:
    """One comparison beside the verdict: the difference with its interval, or why there is none."""
    first, second = contrast.pair
    lower = contrast.direction == "lower"
    subtraction = f"{second} minus {first}, as lower is better," if lower else f"{first} minus {second}"
    value = with_interval(contrast.difference, contrast.low, contrast.high, signed=True)
    if contrast.low is None or contrast.reason is not None:
        return f"{subtraction} {value}; {contrast.reason}"
    return f"{subtraction} {value}, interval {interval(contrast.low, contrast.high, signed=True)}"


def secondary_text(contrast: Contrast) -> str:
    """What a secondary comparison says. Never that two models are the same."""
    size = f"{contrast.num_seeds} seeds, {contrast.num_items} items"
    said = f"{contrast.metric}: {contrast_text(contrast)} ({size})"
    if contrast.reason is not None:
        return said
    if contrast.detected:
        return f"{said}; detected, p {p_text(contrast.p_holm)} by Holm"
    if contrast.low is not None and contrast.high is not None and not contrast.low <= 0 <= contrast.high:
        return f"{said}; not detected among so many metrics, p {p_text(contrast.p_holm)} by Holm"
    return f"{said}; no difference detected at this size; a true one of {number(contrast.detectable)} would have been, four times of five"


def ratio_texts(summary: Summary) -> list[str]:
    """A sentence for each cost in which the two arms of the verdict were compared."""
    return [ratio_text(summary, ratio) for ratio in summary.cost_ratios]


def ratio_text(summary: Summary, ratio: CostRatio | None) -> str:
    """A sentence on one cost of the two arms of the verdict."""
    first, second = summary.verdict.compare
    if ratio is None:
        return f"{NO_RATIO.capitalize()}{_without_ratio(summary)}."
    return f"{first} took {times_text(ratio)} of {second}."


def _without_ratio(summary: Summary) -> str:
    """Why there is no cost ratio where both arms finished a seed in common; else the failures say it."""
    seeds = [
        {cost.seed for cost in summary.arms[name].cost.by_seed}
        for name in summary.verdict.compare
        if name in summary.arms
    ]
    return ": no seed has a cost above 0 in both arms" if len(seeds) == 2 and seeds[0] & seeds[1] else ""


def cost_words(ratio: CostRatio) -> str:
    """What the ratio is of: `the training time`."""
    return RESIDENT if ratio.resident else COST_WORDS[ratio.quantity]


def times_text(ratio: CostRatio) -> str:
    """A cost ratio with its interval: `0.7 times (0.6 to 0.8; 5 seeds) the training time`."""
    value, bounds = ratio_with_interval(ratio.ratio, ratio.low, ratio.high)
    span = "" if ratio.low is None else f" ({bounds}; {ratio.num_seeds} seeds)"
    doubt = f" ({SIDE_BY_SIDE})" if ratio.relaxed else ""
    return f"{value} times{span} {cost_words(ratio)}{doubt}"


def inverted(ratio: CostRatio) -> CostRatio:
    """The ratio the other way round."""
    low, high = (None if value is None else 1 / value for value in (ratio.high, ratio.low))
    return ratio.model_copy(update={"ratio": 1 / ratio.ratio, "low": low, "high": high})


def aa_text(control: AAControl) -> str:
    """What the A/A control found."""
    if control.alarm is None:
        return control.reason or "not available"
    first, second = (", ".join(map(str, seeds)) for seeds in control.seeds)
    found = "alarm" if control.alarm else "no alarm"
    return (
        f"{found}: {control.arm} on seeds {first} minus {control.arm} on seeds {second} "
        f"{with_interval(control.difference, control.low, control.high, signed=True)}, interval "
        f"{interval(control.low, control.high, signed=True)}"
    )
