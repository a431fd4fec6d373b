"""All checks in the order in which they are shown, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Callable

from harness.audit import settings, tokens, training
from harness.audit.budget import budget_matched
from harness.audit.case import Case
from harness.audit.checks import Audit, Check, not_applicable
from harness.audit.tuning import equal_tuning_effort
from harness.results import Results

CHECKS: tuple[Callable[[Case], Check], ...] = (
    tokens.recorded,
    tokens.same_pairs,
    tokens.same_ids,
    tokens.same_masks,
    tokens.same_order,
    tokens.one_end_of_turn,
    tokens.no_empty_completion,
    tokens.no_test_prompt,
    training.same_base_weights,
    training.same_effective_batch,
    settings.presets,
    training.same_precision_and_adapter,
    training.schedule_ended,
    budget_matched,
    training.weights_changed,
    training.reference_is_policy,
    training.no_dropped_batch,
    settings.same_settings,
    settings.declared_differences,
    settings.equal_evaluation_inputs,
    equal_tuning_effort,
    settings.same_versions,
    settings.same_hardware,
    settings.machine_to_itself,
)
# Those that say that arms are alike: they pass only where there are two.
BETWEEN_ARMS = (
    tokens.same_order,
    training.same_base_weights,
    training.same_effective_batch,
    training.same_precision_and_adapter,
    budget_matched,
    settings.same_settings,
    settings.equal_evaluation_inputs,
    equal_tuning_effort,
    settings.same_versions,
    settings.same_hardware,
)


def audit(results: Results) -> Audit:
    """Judge a results folder by what its stages recorded. A stage that did not finish is no reason to fail."""
    case = Case(results)
    alone = _alone(case)
    checks = []
    for check in CHECKS:
        found = check(case)
        if alone and check in BETWEEN_ARMS and found.status == "pass":
            found = not_applicable(found.id, alone)
        checks.append(found)
    unfair = not case.trained or any(check.status == "fail" for check in checks)
    return Audit(verdict="unfair" if unfair else "fair", checks=checks)


def _alone(case: Case) -> str:
    """Why the arms of the verdict cannot be compared: fewer than two have a seed that finished its training."""
    compared = case.results.plan.comparison.decision.compare
    finished = [arm for arm in compared if arm in case.arms]
    if len(finished) > 1:
        return ""
    first, second = compared
    who = f"{finished[0]} alone" if finished else "neither"
    return f"of {first} and {second} {who} finished its training: there is nothing to compare"
