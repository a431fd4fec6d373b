"""Runs one group of evaluations on one model: loads the model, measures, writes the items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.evaluation.items import Measured, outcome_of, write_rows
from harness.records import ITEMS
from pipelines.models import load_policy
from pipelines.stages import (
    EvaluateOutcome,
    EvaluateSettings,
    Evaluation,
    GenerationEvaluation,
    Observer,
    PreferenceEvaluation,
    Stage,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate(stage: Stage, folder: Path, observer: Observer) -> EvaluateOutcome:
    """Measure the model of `stage` and write `items.jsonl`, one row an item, into `folder`.

    Args:
        stage: An evaluation stage.
        folder: The stage's folder; the model and the data lie beside it.
        observer: Told of phases and progress.

    Returns:
        The means of the metrics, each the plain mean of a column of `items.jsonl`.

    Raises:
        PipelineError: a model, a split or a task that cannot serve.
        NotFinite: the model gives NaN or infinite numbers.
    """
    settings = stage.settings
    assert isinstance(settings, EvaluateSettings)
    assert stage.inputs.data is not None
    data = folder.parent / stage.inputs.data
    with observer.phase("load"):
        model = load_policy(stage, folder)
    measured = _measure(model, settings.evaluation, data, seed=stage.seed, observer=observer)
    with observer.phase("save"):
        outcome = outcome_of(settings.evaluation.group, measured.items)
        write_rows(folder / ITEMS, measured.items)
        for name, rows in measured.logs.items():
            write_rows(folder / name, rows)
    return outcome


def _measure(
    model: PreTrainedModel, evaluation: Evaluation, data: Path, *, seed: int, observer: Observer
) -> Measured:
    """Each group imports what it needs when it runs: lm-eval takes its time."""
    if isinstance(evaluation, PreferenceEvaluation):
        from harness.evaluation.preference import measure_preference

        return measure_preference(model, evaluation, data, observer=observer)
    if isinstance(evaluation, GenerationEvaluation):
        from harness.evaluation.generation import measure_generation

        return measure_generation(model, evaluation, data, seed=seed, observer=observer)
    from harness.evaluation.benchmarks import measure_benchmarks

    return measure_benchmarks(model, evaluation, data, observer=observer)
