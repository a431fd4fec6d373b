"""The check of tuning: the two recipes of the verdict were tried at equally many points of their hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.audit.case import Case
from harness.audit.checks import Check, judged, not_applicable, told, warned
from harness.config import Comparison
from harness.differences import TUNING
from harness.plan import Trial
from harness.sweep import points_of

NAME = "equal_tuning_effort"


@dataclass(frozen=True)
class _Effort:
    """How often a recipe was tried.

    Attributes:
        lost: Of a sweep's points that cannot be chosen, as they did not finish with every seed: which, and why.
    """

    num_planned: int
    lost: list[str]

    @property
    def num_tried(self) -> int:
        """Points that could be chosen from."""
        return self.num_planned - len(self.lost)

    def told(self) -> str:
        """Such as `9 of 11 planned`."""
        return f"{self.num_tried} of {self.num_planned} planned" if self.lost else f"{self.num_planned}"


def equal_tuning_effort(case: Case) -> Check:
    """As many points for both, planned and finished.

    Another number of planned points must be declared. Fewer points that finished are a warning: the effort was equal,
    what it left to choose from was not.
    """
    comparison = case.results.plan.comparison
    efforts = {arm: _effort(case, arm) for arm in comparison.decision.compare}
    if not all(effort.num_planned for effort in efforts.values()):
        return not_applicable(NAME, "one of the two arms of the verdict is not in the config")
    counted = "points tried: " + ", ".join(
        f"{effort.told()} for the recipe of {arm}" for arm, effort in efforts.items()
    )
    if lost := told([text for effort in efforts.values() for text in effort.lost]):
        counted += f" ({lost})"
    if effort_differs(case):
        reason = comparison.allow_difference.get(TUNING) or (
            comparison.sweep and comparison.sweep.unequal_effort
        )
        if reason:
            return warned(NAME, [f"{counted}; declared: {reason}"], "")
        return judged(NAME, [counted], "")
    if len({effort.num_tried for effort in efforts.values()}) > 1:
        return warned(NAME, [f"{counted}: the arms were not chosen from equally many"], "")
    return judged(NAME, [], counted)


def effort_differs(case: Case) -> bool:
    """Whether other numbers of points were planned for the two recipes of the verdict."""
    comparison = case.results.plan.comparison
    return len({_num_planned(comparison, arm) for arm in comparison.decision.compare}) > 1


def _effort(case: Case, arm: str) -> _Effort:
    comparison = case.results.plan.comparison
    trials = [trial for trial in case.results.plan.trials if trial.role == "point"]
    reasons = (
        (point.name, next(_unfinished(case, trials, point.name), None))
        for point in points_of(comparison, arm)
    )
    return _Effort(_num_planned(comparison, arm), [f"{name} {found}" for name, found in reasons if found])


def _num_planned(comparison: Comparison, arm: str) -> int:
    """A sweep's points; an arm that is not swept has one for each of its settings."""
    return len(points_of(comparison, arm)) or _settings_of_recipe(comparison, arm)


def _settings_of_recipe(comparison: Comparison, arm: str) -> int:
    """An arm that is not swept was tried as often as the config has arms of the same trainers."""
    recipe = [stage.trainer for stage in comparison.arms.get(arm, [])]
    tried = {
        repr([sorted(stage.arguments.items()) for stage in stages])
        for stages in comparison.arms.values()
        if [stage.trainer for stage in stages] == recipe
    }
    return len(tried)


def _unfinished(case: Case, trials: list[Trial], point: str) -> Iterator[str]:
    """Why a point cannot be chosen: what is needed for that and did not finish."""
    of_point = [trial for trial in trials if trial.name == point]
    if not of_point:
        yield "was not planned"
    for trial in of_point:
        for stage_id in [*trial.training, *trial.evaluations]:
            record = case.results.records.get(stage_id)
            if record is None:
                yield f"seed {trial.seed}: {stage_id} was not run"
            elif record.status != "done":
                yield f"seed {trial.seed}: {stage_id} {record.status.replace('_', ' ')}"
