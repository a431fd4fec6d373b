"""One training stage: policy in, trained policy out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import set_seed

from pipelines.data.prepared import read_outcome, read_split, read_tokenizer
from pipelines.data.splitting import share_of
from pipelines.errors import NotFinite, PipelineError
from pipelines.models import (
    count_parameters,
    load_policy,
    load_reference,
    save_model,
    starting_hash,
    with_new_adapter,
)
from pipelines.outcomes import TrainOutcome
from pipelines.positions import require_readable
from pipelines.stages import Observer, Stage, TrainSettings
from pipelines.training.arguments import effective_arguments, shared_arguments
from pipelines.training.budget import hold_to_tokens, note_spent
from pipelines.training.changes import ChangedWeights
from pipelines.training.checkpoints import CheckpointClock, newest_checkpoint, restore_file, restore_logs
from pipelines.training.evidence import base_hash, probe, probe_rows, read_stored, reference_probe
from pipelines.training.footprint import tensor_bytes, work_of
from pipelines.training.parts import Parts
from pipelines.training.recording import BATCHES, SAMPLED_STEPS, Prepared, Recorder
from pipelines.training.selection import BEST
from pipelines.training.validation import VALIDATION, ValidationPoints, validation_points
from pipelines.training.watching import LOSSES, LoaderWait, LossLog, TokenCount, read_losses

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, Trainer

LOGS = (
    LOSSES,
    BATCHES,
    VALIDATION,
)  # what a stage writes line by line while it trains, each line with its `step`
SECONDS_PER_MINUTE = 60


def train(stage: Stage, folder: Path, observer: Observer) -> TrainOutcome:
    """Train as `stage` says and leave `folder/model` and `folder/losses.jsonl`.

    Where the folder has a checkpoint that can be trusted, training goes on from it, to the same weights.

    Raises:
        PipelineError: the model does not load, or cannot read pairs so long, or the loss or a gradient is not finite.
    """
    settings = stage.settings
    assert isinstance(settings, TrainSettings)
    assert stage.inputs.data is not None
    data = folder.parent / stage.inputs.data
    with observer.phase("load"):
        every = _pairs(stage, folder)
        parts = Parts(
            settings=settings,
            policy=_trainable_policy(stage, folder),
            reference_model=load_reference(stage, folder) if settings.reference == "copy" else None,
            tokenizer=read_tokenizer(data),
            pairs=_trained_on(stage, folder, every),
        )
        others = [] if stage.inputs.demonstrations is None else [parts.pairs]  # else they are among `every`
        require_readable(parts.policy, every, *others)
        prepared = Prepared(parts.pairs)
        probed = probe_rows(every)
        start_probe = probe(parts.policy, probed)
        from_base = stage.inputs.policy is None or settings.tuning != "full"
        base = base_hash(parts.policy) if from_base else None
        checkpoint = newest_checkpoint(folder)
        restore_logs(checkpoint, folder, LOGS)
        restore_file(checkpoint, folder, BEST)
    if checkpoint is not None:
        observer.resume(checkpoint.manifest.observed)
    with observer.phase("data"):
        trainer = make_trainer(stage, folder, parts)
        _hold_effective_batch(trainer, settings)
        hold_to_tokens(trainer, stage, folder, parts.pairs)
        stored = read_stored(folder.parent / stage.inputs.reference) if stage.inputs.reference else None
        of_reference = reference_probe(trainer, parts, probed, stored)
        recorder = Recorder(
            trainer,
            prepared,
            folder,
            end_of_turn_ids=read_outcome(data).end_of_turn_ids,
            paired=settings.kind != "sft",
            whole_chosen=settings.kind == "orpo"
            and settings.nll == "prompt_and_completion"
            and settings.nll_weight != 0,
            every=1 if settings.recording == "full" else SAMPLED_STEPS,
        )
    changed = ChangedWeights(trainer.model)
    models = [model for model in (trainer.model, parts.reference_model) if model is not None]
    losses = read_losses(folder / LOSSES)
    points: ValidationPoints | None = None
    with (
        observer.phase("train"),
        TokenCount(*models) as counted,
        recorder,
        LoaderWait(trainer, observer),
        (folder / LOSSES).open("a") as file,
    ):
        if checkpoint is not None:
            counted.start_from(checkpoint.manifest.counts)
        trainer.add_callback(
            LossLog(file, observer, losses, divergence_factor=stage.limits.divergence_factor)
        )
        if settings.eval_every is not None:
            points = validation_points(stage, folder, trainer, counted=counted, observer=observer)
            trainer.add_callback(points)
        trainer.add_callback(_checkpoint_clock(stage, folder, counted, observer))
        try:
            state = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
        except NotFinite as error:
            if empty := recorder.empty_reply():
                raise NotFinite(
                    f"{error}. {empty} reached the model empty: nothing of it is in the loss"
                ) from error
            raise
    held = tensor_bytes(trainer, parts.reference_model)
    with observer.phase("save"):
        selected = points.leave_best() if points else None
        digest = save_model(trainer.model, parts.tokenizer, folder)
        if settings.max_tokens is not None:
            note_spent(stage, folder, counted.num_policy_tokens)
        final_probe = probe(trainer.model, probed)
    num_parameters, num_trainable = count_parameters(trainer.model)
    sequences_per_pair = 1 if settings.kind == "sft" else 2
    return TrainOutcome(
        num_steps=state.global_step,
        num_pairs_seen=counted.num_policy_sequences // sequences_per_pair,
        num_policy_tokens=counted.num_policy_tokens,
        num_reference_tokens=counted.num_reference_tokens,
        num_parameters=num_parameters,
        num_trainable_parameters=num_trainable,
        first_loss=losses[0] if losses else None,
        final_loss=losses[-1] if losses else None,
        effective_arguments=effective_arguments(trainer.args),
        weights_hash=digest,
        changed_weights_share=changed.share(),
        selected_step=selected,
        num_planned_steps=trainer.state.max_steps,
        num_rows=len(trainer.train_dataset),
        base_hash=base,
        start_probe=start_probe,
        final_probe=final_probe,
        reference_probe=of_reference,
        tensor_bytes=held,
        work=work_of(trainer.model, counted),
    )


def _hold_effective_batch(trainer: Trainer, settings: TrainSettings) -> None:
    """Refuse more devices than one: transformers 5.23 multiplies the batch by their number.

    TRL 1.16 refuses them for SFT and DPO, not for ORPO.
    """
    arguments = trainer.args
    taken = arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    if arguments.train_batch_size * arguments.world_size != arguments.per_device_train_batch_size:
        raise PipelineError(
            f"training.effective_batch must be {settings.effective_batch} pairs a step, and over the devices that this "
            f"process sees it would be {taken}. Let it see one: CUDA_VISIBLE_DEVICES=0."
        )


def _trained_on(stage: Stage, folder: Path, every: Dataset) -> Dataset:
    """All pairs; of SFT, where it says so, a share of them or others."""
    settings = stage.settings
    assert isinstance(settings, TrainSettings)
    if stage.inputs.demonstrations is not None:
        return read_split(folder.parent / stage.inputs.demonstrations, "train")
    return every if settings.share is None else every.select(share_of(every["uid"], settings.share))


def _pairs(stage: Stage, folder: Path) -> Dataset:
    """The training pairs that every stage of every arm has, with the reference's log-probs where they are stored."""
    assert stage.inputs.data is not None
    pairs = read_split(folder.parent / stage.inputs.data, "train")
    if stage.inputs.reference is None:
        return pairs
    from pipelines.training.reference import with_reference

    return with_reference(
        pairs, folder.parent / stage.inputs.reference, started_from=starting_hash(stage, folder)
    )


def _checkpoint_clock(stage: Stage, folder: Path, counted: TokenCount, observer: Observer) -> CheckpointClock:
    minutes = stage.limits.save_every_minutes
    return CheckpointClock(
        folder,
        every_seconds=None if minutes is None else minutes * SECONDS_PER_MINUTE,
        counted=counted,
        observer=observer,
        logs=LOGS,
        linked=BEST,
    )


def _trainable_policy(stage: Stage, folder: Path) -> PreTrainedModel:
    settings = stage.settings
    assert isinstance(settings, TrainSettings)
    set_seed(stage.seed)
    policy = load_policy(stage, folder, trainable=True)
    if settings.tuning != "full" and stage.inputs.policy is None:
        policy = with_new_adapter(policy, settings.lora, quantized=settings.tuning == "qlora")
    policy.config.use_cache = False
    return policy


def make_trainer(stage: Stage, folder: Path, parts: Parts) -> Trainer:
    """The stage's trainer, ready to train."""
    arguments = shared_arguments(stage, folder)
    # Imported one by one: the ORPO trainer lives in an experimental package that may go.
    if stage.kind == "sft":
        from pipelines.training.sft import sft_trainer

        return sft_trainer(parts, arguments)
    if stage.kind == "dpo":
        from pipelines.training.dpo import dpo_trainer

        return dpo_trainer(parts, arguments)
    if parts.settings.implementation == "fused":
        from pipelines.training.fused_orpo import fused_orpo_trainer

        return fused_orpo_trainer(parts, arguments)
    try:
        from pipelines.training.orpo import orpo_trainer
    except ImportError as error:
        raise PipelineError(
            f"implementation: trl needs TRL's experimental ORPOTrainer, which cannot be imported: {error}. "
            "Use `implementation: fused`: the same loss on TRL's stable parts."
        ) from error
    return orpo_trainer(parts, arguments)
