"""The check of the budget: what `budget.match` names, as it was recorded, is equal between the arms within 1 %."""

from __future__ import annotations

from harness.audit.case import Case
from harness.audit.checks import Check, judged, not_applicable, warned
from harness.budget import TOLERANCE, yardstick
from harness.differences import BY_BUDGET

NAME = "budget_matched"
ALPHA = 0.05  # of the interval by which noise in seconds is told from a difference


def budget_matched(case: Case) -> Check:
    """What the config says is equal between arms is equal within 1 %; a declared difference of it is a warning."""
    comparison = case.results.plan.comparison
    match = comparison.budget.match
    declared = [
        f"{key} differs as declared: {reason}"
        for key, reason in comparison.allow_difference.items()
        if key in BY_BUDGET
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
    return _by_seed(case, match)


def _by_seed(case: Case, unit: str) -> Check:
    """Every arm against the yardstick with the same seed; the same order of pairs then rounds alike."""
    first = yardstick(case.results.plan.comparison)
    spent: dict[int | None, dict[str, float]] = {}
    for trial in filter(case.finished, case.trials):
        stages = [stage for stage in case.trained if (stage.arm, stage.seed) == (trial.name, trial.seed)]
        spent.setdefault(trial.seed, {})[trial.name] = sum(
            stage.outcome.num_policy_tokens if unit == "tokens" else stage.outcome.num_pairs_seen
            for stage in stages
        )
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
    if not compared:
        return not_applicable(NAME, "no two arms finished their training with the same seed")
    return judged(NAME, problems, f"{unit} at most {furthest:.1%} apart, seed by seed")


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
    """Means over seeds: the clock of one seed says little. Where 1 % lies within their noise, that is a warning."""
    from harness.costs import cost_of, cost_ratios  # scipy, which a run loads at its end only

    costs = {
        arm: cost_of(case.results, [trial for trial in case.trials if trial.name == arm]) for arm in case.arms
    }
    means = {arm: cost.train_seconds for arm, cost in costs.items() if cost.train_seconds}
    if len(means) < 2:
        return not_applicable(NAME, "fewer than two arms whose seconds were recorded")
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    apart = means[most] / means[least] - 1
    told = f"{means[most]:.6g} s of training in {most}, {means[least]:.6g} in {least}: {apart:.1%} apart"
    if apart <= TOLERANCE:
        return judged(NAME, [], told)
    ratio = next(
        (
            found
            for found in cost_ratios(case.results, costs[most], costs[least], alpha=ALPHA)
            if found.quantity == "train_seconds"
        ),
        None,
    )
    if ratio is not None and ratio.low is not None and ratio.low <= 1 + TOLERANCE:
        return warned(
            NAME,
            [
                f"{told}; over {ratio.num_seeds} seeds that is within the noise ({ratio.low:.3f} to {ratio.high:.3f})"
            ],
            "",
        )
    return judged(NAME, [f"{told}. Delete the calibrate stages and run again on a machine to itself"], "")
