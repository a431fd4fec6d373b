"""From the config to the settings of one stage: training, reference log-probs, calibration, evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from harness.budget import UNTIMED, Allotment
from harness.config import ArmStage, Comparison
from harness.measured import measured_by
from harness.sweep import sweep_metric
from pipelines.evaluations import Evaluation
from pipelines.stages import (
    CalibrateSettings,
    EvaluateSettings,
    MasterWeights,
    Nll,
    ReferenceSettings,
    TrainSettings,
)

REFERENCE_ARGUMENTS = (
    "ld_alpha",
    "tf32",
)  # of TRL's DPO arguments, those that change a reference's log-probs


def train_settings(comparison: Comparison, stage: ArmStage, allotment: Allotment) -> TrainSettings:
    """Of a stage of an arm, which ends where its allotment ends."""
    shape = comparison.training
    orpo = stage.trainer == "orpo"
    fair = (stage.preset or shape.preset) == "fair"
    # As TRL ships it, only ORPO's covers the prompt.
    default_nll: Nll = "prompt_and_completion" if orpo and not fair else "completion"
    steps = {} if allotment.max_steps is None else {"max_steps": allotment.max_steps}
    return TrainSettings(
        kind=stage.trainer,
        model=comparison.model,
        tuning=shape.tuning,
        lora=shape.lora,
        dtype=shape.dtype,
        master_weights=_master_weights(comparison),
        effective_batch=shape.effective_batch,
        micro_batch=shape.micro_batch,
        max_length=shape.max_length,
        gradient_checkpointing=shape.gradient_checkpointing,
        recording=shape.recording,
        reference=(stage.reference or "copy") if stage.trainer == "dpo" else None,
        implementation=(stage.implementation or "trl") if orpo else None,
        nll=stage.nll or default_nll,
        nll_weight=(1.0 if stage.nll_weight is None else stage.nll_weight) if orpo else None,
        # SFT's loss is a mean over the step's tokens in TRL already.
        mean_over=None if stage.trainer == "sft" else "step" if fair else "micro_batch",
        eval_every=shape.eval_every,
        eval_pairs=shape.eval_pairs,
        eval_test=shape.eval_test,
        select=shape.select,
        select_by=shape.select_by,
        share=comparison.sft.share if stage.trainer == "sft" and comparison.sft.share < 1 else None,
        max_tokens=allotment.max_tokens,
        arguments={**shape.arguments, **stage.arguments, **steps},
    )


def calibrate_settings(comparison: Comparison, stage: ArmStage) -> CalibrateSettings:
    """Of the stage that times such a stage's steps."""
    return CalibrateSettings(
        kind="calibrate",
        stage=timed_settings(train_settings(comparison, stage, Allotment())),
        num_steps=comparison.budget.calibration_steps,
    )


def timed_settings(settings: TrainSettings) -> TrainSettings:
    """What a stage's steps take their time by: stages that are equal in this share a calibration."""
    arguments = {name: value for name, value in settings.arguments.items() if name not in UNTIMED}
    return settings.model_copy(update={"arguments": arguments, "eval_every": None, "select": "last"})


def reference_settings(comparison: Comparison, stage: ArmStage) -> ReferenceSettings:
    """Of the stage that computes a DPO stage's reference log-probs."""
    shape = comparison.training
    arguments = {**shape.arguments, **stage.arguments}
    return ReferenceSettings(
        kind="reference",
        model=comparison.model,
        tuning=shape.tuning,
        lora=shape.lora,
        dtype=shape.dtype,
        master_weights=_master_weights(comparison),
        micro_batch=shape.micro_batch,
        max_length=shape.max_length,
        arguments={key: arguments[key] for key in REFERENCE_ARGUMENTS if key in arguments},
    )


def evaluate_settings(comparison: Comparison, evaluation: Evaluation) -> EvaluateSettings:
    """Of one group of evaluations."""
    shape = comparison.training
    return EvaluateSettings(
        kind="evaluate",
        model=comparison.model,
        dtype=shape.dtype,
        max_length=shape.max_length,
        evaluation=evaluation,
    )


def evaluations_of(comparison: Comparison) -> Iterator[Evaluation]:
    """What is measured on every final model."""
    groups = comparison.evaluations
    for evaluation in (groups.preference, groups.generation, groups.benchmarks, groups.drift):
        if evaluation is not None:
            yield evaluation


def choosing_evaluations(comparison: Comparison) -> Iterator[Evaluation]:
    """What a sweep's points are measured on, the validation split: what its metric is from, and preference, which is cheap.

    Preference holds the NLL of the chosen replies, SFT's own loss: without it, nobody sees which points lose that.
    """
    wanted = sweep_metric(comparison)
    for evaluation in (comparison.evaluations.preference, comparison.evaluations.generation):
        if evaluation is not None and (evaluation.group == "preference" or wanted in measured_by(evaluation)):
            yield evaluation.model_copy(update={"split": "validation"})


def _master_weights(comparison: Comparison) -> MasterWeights | None:
    """Adapters are float32 in any case, so there is a choice for bfloat16 in full alone."""
    shape = comparison.training
    return shape.master_weights if shape.tuning == "full" and shape.dtype == "bfloat16" else None
