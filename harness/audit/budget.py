"""The check of the budget: what `budget.match` names, as it was recorded, is equal between the arms within 1 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.audit.case import Case, Trained
from harness.audit.checks import Check, judged, not_applicable, warned
from harness.audit.seconds import calibrated_seconds, clocked
from harness.budget import TOLERANCE, yardstick
from harness.differences import BY_BUDGET

NAME = "budget_matched"


def budget_matched(case: Case) -> Check:
    """What the config says is equal between arms is equal within 1 %; a declared difference of it is a warning."""
    comparison = case.results.plan.comparison
    match = comparison.budget.match
    declared = [
        f"{key} differs as declared: {reason}"
        for key, reason in comparison.allow_difference.items()
        if key in BY_BUDGET and key in case.differences
    ]
    if declared and match in ("epochs", "none"):
        return warned(NAME, declared, "")
    if match == "none":
        return not_applicable(NAME, "budget.match is none")
    if match == "epochs":
        epochs = {stage.label: stage.num_epochs for stage in case.trained if stage.num_epochs is not None}
        return _matched(epochs, "epochs", "recorded how many rows its trainer had")
    if match == "seconds":
        return _seconds(case)
    amount = _tokens if match == "tokens" else _pairs
    found = _by_seed(case, amount, match)
    if not found.num_compared:
        return not_applicable(NAME, "no two arms finished their training with the same seed")
    return judged(NAME, found.problems, f"{found.told}, seed by seed")


@dataclass(frozen=True)
class _Held:
    """Every arm held against the yardstick with the same seed.

    Attributes:
        problems: Arms further apart than is allowed.
        told: How far the furthest is.
    """

    problems: list[str]
    num_compared: int
    told: str


def _by_seed(case: Case, amount: Callable[[Trained], float], unit: str) -> _Held:
    """With the same seed, the same order of pairs rounds alike."""
    first = yardstick(case.results.plan.comparison)
    spent: dict[int | None, dict[str, float]] = {}
    for trial in filter(case.finished, case.trials):
        stages = [stage for stage in case.trained if (stage.arm, stage.seed) == (trial.name, trial.seed)]
        spent.setdefault(trial.seed, {})[trial.name] = sum(map(amount, stages))
    problems, furthest, compared = [], 0.0, 0
    for seed, arms in spent.items():
        beside = first if first in arms else next(iter(arms))
        for arm in arms:
            if arm == beside:
                continue
            compared += 1
            apart = abs(arms[arm] / arms[beside] - 1)
            furthest = max(furthest, apart)
            if apart > TOLERANCE:
                problems.append(
                    f"{arms[arm]:.6g} {unit} in {arm} seed {seed}, {arms[beside]:.6g} in {beside} seed {seed}: {apart:.1%} apart"
                )
    return _Held(problems, compared, f"{unit} at most {furthest:.1%} apart")


def _tokens(stage: Trained) -> float:
    return stage.outcome.num_policy_tokens


def _pairs(stage: Trained) -> float:
    return stage.outcome.num_pairs_seen


def _matched(spent: dict[str, float], unit: str, missing: str) -> Check:
    if len(spent) < 2:
        return not_applicable(NAME, f"fewer than two that {missing}")
    least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
    apart = spent[most] / spent[least] - 1
    problems = []
    if apart > TOLERANCE:
        problems.append(
            f"{spent[most]:.6g} {unit} in {most}, {spent[least]:.6g} in {least}: {apart:.1%} apart"
        )
    return judged(NAME, problems, f"{spent[least]:.6g} to {spent[most]:.6g} {unit}")


def _seconds(case: Case) -> Check:
    """The steps must be those into which the stored calibration turned the budget. The clock then may be wrong, and say so."""
    seconds = calibrated_seconds(case)
    held = None if seconds is None else _by_seed(case, seconds, "calibrated seconds")
    if held is not None and held.problems:
        return judged(NAME, held.problems, "")
    by_steps = f"{held.told} by the steps that were taken; " if held and held.num_compared else ""
    clock = clocked(case, matched_by_steps=bool(by_steps))
    if clock is None:
        return not_applicable(NAME, "fewer than two arms whose seconds were recorded")
    told = f"{by_steps}{clock.told}"
    if clock.doubt:
        return warned(NAME, [f"{told}; {clock.doubt}"], "")
    problem = f"{told}. Delete the calibrate stages and run again on a machine to itself"
    return judged(NAME, [problem] if clock.unmatched else [], told)
