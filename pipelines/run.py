"""The narrow door: run this stage, with these settings, into this folder."""

from __future__ import annotations

from pathlib import Path

from pipelines.outcomes import Outcome
from pipelines.stages import Observer, Stage


def run_stage(stage: Stage, folder: Path, observer: Observer) -> Outcome:
    """Run a stage that makes data or a model. Heavy imports happen here, for what this kind needs.

    Args:
        stage: What to run.
        folder: The stage's folder; its inputs lie beside it.
        observer: Told of phases and progress.

    Raises:
        PipelineError: a reason that a person can act on.
    """
    if stage.kind == "pretrain":
        from pipelines.toy.pretrain import pretrain

        return pretrain(stage, folder, observer)
    if stage.kind == "reward":
        from pipelines.toy.reward_model import train_reward_model

        return train_reward_model(stage, folder, observer)
    if stage.kind == "convert":
        from pipelines.convert import convert

        return convert(stage, folder, observer)
    if stage.kind == "data":
        from pipelines.data.prepare import prepare

        return prepare(stage, folder, observer)
    if stage.kind == "reference":
        from pipelines.training.reference import compute_reference

        return compute_reference(stage, folder, observer)
    if stage.kind == "calibrate":
        from pipelines.training.calibrate import calibrate

        return calibrate(stage, folder, observer)
    from pipelines.training.train import train

    return train(stage, folder, observer)
