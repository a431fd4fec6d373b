"""All checks in the order in which they are shown, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Callable

from harness.audit import settings, tokens, training
from harness.audit.budget import budget_matched
from harness.audit.case import Case
from harness.audit.checks import Audit, Check
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
    settings.equal_tuning_effort,
    settings.same_versions,
    settings.same_hardware,
    settings.machine_to_itself,
)


def audit(results: Results) -> Audit:
    """Judge a results folder by what its stages recorded. A stage that did not finish is no reason to fail."""
    case = Case(results)
    checks = [check(case) for check in CHECKS]
    unfair = any(check.status == "fail" for check in checks)
    return Audit(verdict="unfair" if unfair else "fair", checks=checks)
