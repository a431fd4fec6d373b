"""Which models a judge compares: the arms with each other, and each arm with SFT alone and with the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.config import Comparison
from harness.plan import Trial
from pipelines.judge_settings import Mode
from pipelines.stages import StageInputs

CONTROLS = ("sft", "base")


def judged_pairs(comparison: Comparison) -> list[tuple[str, str]]:
    """The names of each two models, the verdict's two arms first; a win rate is that of the first of them."""
    declared = [name for name in comparison.decision.compare if name in comparison.arms]
    others = [name for name in comparison.arms if name not in declared]
    between = [(declared[0], declared[1])] if len(declared) == 2 else []
    between += [(arm, opponent) for arm in others for opponent in declared]
    controls = [name for name in CONTROLS if name in comparison.controls]
    return between + [(arm, control) for arm in (*declared, *others) for control in controls]


def reference_opponent(comparison: Comparison) -> str | None:
    """The control that the metric `win_rate_<judge>` is against, the same for every model; None without a control.

    SFT alone where it is measured: against the base nearly every reply of a trained model may win.
    """
    begins_with_sft = any(stages and stages[0].trainer == "sft" for stages in comparison.arms.values())
    if "sft" in comparison.controls and begins_with_sft:
        return "sft"
    return "base" if "base" in comparison.controls else None


def matched(first: Sequence[Trial], second: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    """Trials of two models that are compared: those of one seed; a base that all seeds share meets every seed."""
    for trial in first:
        for other in second:
            if trial.seed == other.seed or other.seed is None:
                yield trial, other


def judge_inputs(
    comparison: Comparison, trials: Sequence[Trial], mode: Mode, replies_of: Callable[[Trial], str]
) -> Iterator[tuple[int, StageInputs]]:
    """What a judge reads: the place of a trial among `trials`, and the inputs of a stage on its replies.

    Args:
        comparison: Says which models are compared.
        trials: All of the plan; points of a sweep are not judged.
        mode: Whether the judge scores, once a trial, or compares, once a match.
        replies_of: The id of the stage that made a trial's replies.
    """
    judged = {place: trial for place, trial in enumerate(trials) if trial.role != "point"}
    if mode == "score":
        for place, trial in judged.items():
            yield place, StageInputs(replies=replies_of(trial))
        return
    places = {(trial.name, trial.seed): place for place, trial in judged.items()}
    for first, second in judged_pairs(comparison):
        sides = ([trial for trial in judged.values() if trial.name == name] for name in (first, second))
        for trial, other in matched(*sides):
            inputs = StageInputs(replies=replies_of(trial), opponent=replies_of(other))
            yield places[trial.name, trial.seed], inputs


def num_matches(comparison: Comparison) -> int:
    """How many times a comparing judge runs: once for each two models and seed."""
    return comparison.seeds * len(judged_pairs(comparison))
