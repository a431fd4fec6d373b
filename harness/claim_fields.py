"""What rows of different claims have in common: a measured number's fields, and the rule on a detected difference."""

from __future__ import annotations

from typing import Any

from harness.cost_schema import CostRatio
from harness.results import Results
from harness.summary_schema import ClaimStatus, Contrast, SweepSummary


def holds_if_worse(contrast: Contrast) -> ClaimStatus:
    """The claim is that the first of the pair is worse: it holds, or does not, where a difference was detected."""
    if not contrast.detected:
        return "cannot tell"
    return "holds" if contrast.difference < 0 else "does not hold"


def panic_status(contrast: Contrast, recipe: str) -> dict[str, Any]:
    """Whether a recipe lost what SFT alone has: it supports the claim of DPO, and speaks against it of ORPO.

    Args:
        contrast: The recipe's arm against SFT alone.
        recipe: `DPO` or `ORPO`.
    """
    worse = holds_if_worse(contrast)
    if worse == "cannot tell":
        return {"status": worse, "finding": contrast.reason or f"{recipe} was not detected to lose or gain"}
    lost = worse == "holds"
    turned: dict[bool, ClaimStatus] = {True: "holds", False: "does not hold"}
    return {
        "status": turned[lost == (recipe == "DPO")],
        "finding": f"{recipe} {'lost, so there is something to fear' if lost else 'gained, so there is nothing to fear'}",
    }


def numbers(found: CostRatio | Contrast) -> dict[str, Any]:
    """The fields of a claim that a ratio or a difference fills."""
    if isinstance(found, CostRatio):
        value: dict[str, Any] = {"value": found.ratio}
    else:
        first, second = found.pair
        better = ", turned so that more is better" if found.direction == "lower" else ""
        value = {"value": found.difference, "quantity": f"{found.metric}, {first} minus {second}{better}"}
    return {**value, "low": found.low, "high": found.high, "num_seeds": found.num_seeds}


def evaluations_of(results: Results, *names: str) -> list[str]:
    """Ids of the stages behind these models' or points' scores."""
    trials = (trial for trial in results.plan.trials if trial.name in names)
    return list(dict.fromkeys(stage for trial in trials for stage in trial.evaluations))


def is_tuned(sweep: SweepSummary | None, *names: str) -> bool:
    """Whether each of the arms ran at the best of several settings."""
    arms = sweep.arms if sweep else {}
    return all(
        name in arms and len(arms[name].points) > 1 and any(point.chosen for point in arms[name].points)
        for name in names
    )


def tried_settings(sweep: SweepSummary | None, *names: str) -> str:
    """How much tuning the arms called `names` had, in words; empty where one of them was not swept."""
    arms = sweep.arms if sweep else {}
    if not set(names) <= set(arms):
        return ""
    told = (f"{len(arms[name].points)} of {name} ({arms[name].num_within_margin or 0})" for name in names)
    return f"settings tried (in brackets those within the margin of the best, on validation pairs): {', '.join(told)}"
