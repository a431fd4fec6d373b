"""Runs one group of evaluations on one model: loads the model, measures, writes the items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel

from harness.evaluation.items import Measured, outcome_of, write_rows
from harness.evaluation.loaded import Loaded
from harness.records import ITEMS
from pipelines.evaluations import DriftEvaluation, GenerationEvaluation, PreferenceEvaluation
from pipelines.models import load_base, load_policy
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import EvaluateSettings, Observer, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate(stage: Stage, folder: Path, observer: Observer, loaded: Loaded) -> EvaluateOutcome:
    """Measure the model of `stage` and write `items.jsonl`, one row an item, into `folder`.

    Args:
        stage: An evaluation stage.
        folder: The stage's folder; the model and the data lie beside it.
        observer: Told of phases and progress.
        loaded: Has the model where the stage before evaluated it; gets it.

    Returns:
        The means of the metrics, each the plain mean of a column of `items.jsonl`.

    Raises:
        PipelineError: a model, a split or a task that cannot serve.
        NotFinite: the model gives NaN or infinite numbers.
    """
    settings = stage.settings
    assert isinstance(settings, EvaluateSettings)
    with observer.phase("load"):
        model = loaded.model(stage, lambda: load_policy(stage, folder))
    measured = _measure(model, stage, folder, observer)
    with observer.phase("save"):
        outcome = outcome_of(settings.evaluation.group, measured.items)
        write_rows(folder / ITEMS, measured.items)
        for name, rows in measured.logs.items():
            write_rows(folder / name, rows)
    return outcome


def _measure(model: PreTrainedModel, stage: Stage, folder: Path, observer: Observer) -> Measured:
    """Each group imports what it needs when it runs: lm-eval takes its time."""
    assert isinstance(stage.settings, EvaluateSettings)
    assert stage.inputs.data is not None
    evaluation, data = stage.settings.evaluation, folder.parent / stage.inputs.data
    if isinstance(evaluation, PreferenceEvaluation):
        from harness.evaluation.preference import measure_preference

        of_base = stage.inputs.base_evaluation
        return measure_preference(
            model,
            evaluation,
            data,
            base_evaluation=folder.parent / of_base if of_base else None,
            observer=observer,
        )
    if isinstance(evaluation, GenerationEvaluation):
        from harness.evaluation.generation import measure_generation

        return measure_generation(model, evaluation, data, seed=stage.seed, observer=observer)
    if isinstance(evaluation, DriftEvaluation):
        from harness.evaluation.drift import measure_drift

        with observer.phase("load"):
            base = None if isinstance(model, PeftModel) else load_base(stage, folder).eval()
        return measure_drift(model, base, evaluation, data, observer=observer)
    from harness.evaluation.benchmarks import measure_benchmarks

    return measure_benchmarks(model, evaluation, data, observer=observer)
