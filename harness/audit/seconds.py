"""What `budget.match: seconds` came to: by the calibration that is stored, and by the clock, which is as good as the machine was quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.audit.case import Case, Trained
from harness.budget import TOLERANCE, seconds_of
from harness.contention import other_load
from harness.numbers import ratio_with_interval
from harness.records import Record
from harness.stage_settings import timed_settings
from pipelines.outcomes import CalibrateOutcome
from pipelines.stages import CalibrateSettings

if TYPE_CHECKING:
    from harness.cost_schema import CostSummary

ALPHA = 0.05  # of the interval by which noise in seconds is told from a difference

Calibrations = Mapping[str, Record]  # by what a stage's steps take their time by, as text


@dataclass(frozen=True)
class Clock:
    """What the arms' means over seeds say; the clock of one seed says little.

    Attributes:
        told: The seconds of the two arms that are furthest apart.
        unmatched: Whether that is more than is allowed.
        doubt: Why they may be matched all the same; empty where nothing speaks for it.
    """

    told: str
    unmatched: bool
    doubt: str


def calibrations(case: Case) -> Calibrations:
    """The finished ones of the plan."""
    found = {}
    for stage in case.results.plan.stages:
        record = case.results.done(stage.id)
        if isinstance(stage.settings, CalibrateSettings) and record is not None:
            found[stage.settings.stage.model_dump_json()] = record
    return found


def calibration_of(stage: Trained, stored: Calibrations) -> CalibrateOutcome | None:
    """The one that turned the stage's budget into steps; None where it is not stored."""
    record = stored.get(timed_settings(stage.settings).model_dump_json())
    return record.outcome if record and isinstance(record.outcome, CalibrateOutcome) else None


def calibrated_seconds(case: Case) -> Callable[[Trained], float] | None:
    """What the steps that a stage took are worth by its calibration; None where a stage of an arm has none."""
    stored = calibrations(case)
    times = {stage.record.stage.id: calibration_of(stage, stored) for stage in case.trained}
    if not times or None in times.values():
        return None

    def seconds(stage: Trained) -> float:
        calibration = times[stage.record.stage.id]
        assert calibration is not None
        return seconds_of(calibration, stage.outcome.num_steps)

    return seconds


def clocked(case: Case, *, matched_by_steps: bool) -> Clock | None:
    """The seconds that were recorded; None where fewer than two arms have any.

    Args:
        case: The results.
        matched_by_steps: Whether arms are equal by their steps and the calibration, so that the clock may be what is wrong.
    """
    from harness.costs import cost_of  # scipy, which a run loads at its end only

    costs = {
        arm: cost_of(case.results, [trial for trial in case.trials if trial.name == arm]) for arm in case.arms
    }
    means = {arm: cost.train_seconds for arm, cost in costs.items() if cost.train_seconds}
    if len(means) < 2:
        return None
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    apart = means[most] / means[least] - 1
    told = f"{means[most]:.6g} s of training in {most}, {means[least]:.6g} in {least}: {apart:.1%} apart"
    if apart <= TOLERANCE:
        return Clock(told, unmatched=False, doubt="")
    doubt = _noise_of_seeds(case, costs[most], costs[least])
    if matched_by_steps:
        doubt = doubt or _noise_of_steps(case, costs) or _busy_machine(case)
    return Clock(told, unmatched=True, doubt=doubt)


def _noise_of_seeds(case: Case, most: CostSummary, least: CostSummary) -> str:
    from harness.costs import cost_ratios

    ratios = cost_ratios(case.results, most, least, alpha=ALPHA)
    ratio = next((found for found in ratios if found.quantity == "train_seconds"), None)
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low > 1 + TOLERANCE:
        return ""
    _, bounds = ratio_with_interval(ratio.ratio, ratio.low, ratio.high)
    return f"over {ratio.num_seeds} seeds that is within the noise ({bounds})"


def _noise_of_steps(case: Case, costs: Mapping[str, CostSummary]) -> str:
    """One seed tells nothing of noise; how unequal the calibrated steps of one stage are does."""
    stored, bounds = calibrations(case), []
    for arm, cost in costs.items():
        if cost.train_seconds is None or len(cost.by_seed) > 1:
            return ""
        low = high = 0.0
        for stage in (stage for stage in case.trained if stage.arm == arm):
            found = calibration_of(stage, stored)
            assert found is not None
            low += found.start_seconds + stage.outcome.num_steps * min(found.step_seconds)
            high += found.start_seconds + stage.outcome.num_steps * max(found.step_seconds)
        if not low <= cost.train_seconds <= high:
            return ""
        bounds.append(f"{low:.4g} to {high:.4g} s in {arm}")
    return f"by the shortest and the longest step of each calibration it may be {', '.join(bounds)}"


def _busy_machine(case: Case) -> str:
    costs = [cost for stage in case.trained if (cost := stage.record.cost) and cost.contended is True]
    if not costs:
        return ""
    return f"{other_load(costs)} in {len(costs)} training stages, so the clock is unreliable"
