"""Reference log-probs computed once and read by every DPO stage that starts from the same policy on the same pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset, load_from_disk
from torch.utils.data import DataLoader

from pipelines.data.prepared import read_split, read_tokenizer
from pipelines.errors import PipelineError
from pipelines.models import load_policy
from pipelines.outcomes import ReferenceOutcome
from pipelines.stages import Observer, ReferenceSettings, Stage, TrainSettings
from pipelines.training.arguments import shared_arguments
from pipelines.training.dpo import dpo_trainer
from pipelines.training.feed import REFERENCE_COLUMNS
from pipelines.training.footprint import work_of
from pipelines.training.parts import Parts
from pipelines.training.watching import TokenCount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.training.dpo import PretokenizedDPOTrainer

LOGPS = "logps"


def compute_reference(stage: Stage, folder: Path, observer: Observer) -> ReferenceOutcome:
    """Leave `folder/logps`: `uid`, `ref_chosen_logps` and `ref_rejected_logps` of every training pair.

    TRL's own function computes them, so that a stored reference and one in memory give DPO the same loss.

    Raises:
        PipelineError: the model does not load.
    """
    assert stage.inputs.data is not None
    data = folder.parent / stage.inputs.data
    with observer.phase("load"):
        as_dpo = stage.model_copy(update={"settings": _as_dpo(stage)})
        parts = Parts(
            settings=_as_dpo(stage),
            # Trainable, though it is not trained: TRL then takes a frozen copy of the adapter as reference.
            policy=load_policy(as_dpo, folder, trainable=True),
            reference_model=None,
            tokenizer=read_tokenizer(data),
            pairs=read_split(data, "train"),
        )
    with observer.phase("data"):
        trainer = dpo_trainer(parts, shared_arguments(as_dpo, folder))
    with observer.phase("reference"), TokenCount(parts.policy) as counted:
        batches = list(_batches(trainer, parts, observer))
    with observer.phase("save"):
        chosen, rejected = (torch.cat(side).tolist() for side in zip(*batches, strict=True))
        columns = dict(zip(REFERENCE_COLUMNS, (chosen, rejected), strict=True))
        Dataset.from_dict({"uid": parts.pairs["uid"], **columns}).save_to_disk(folder / LOGPS)
    return ReferenceOutcome(
        num_pairs=len(parts.pairs),
        num_reference_tokens=counted.num_reference_tokens,
        work=work_of(parts.policy, counted),
    )


def with_reference(pairs: Dataset, folder: Path) -> Dataset:
    """`pairs` with their reference log-probs as columns.

    Args:
        pairs: Training pairs, all or some of those that the reference stage saw.
        folder: The reference stage's.

    Raises:
        PipelineError: the log-probs of a pair are missing.
    """
    stored = load_from_disk(folder / LOGPS)
    place = {uid: number for number, uid in enumerate(stored["uid"])}
    try:
        rows = stored.select([place[uid] for uid in pairs["uid"]])
    except KeyError as error:
        raise PipelineError(
            f"{folder.name}: has no log-probs of pair {error.args[0]!r}. Delete that folder and run again."
        ) from error
    for column in REFERENCE_COLUMNS:
        pairs = pairs.add_column(column, list(rows[column]))
    return pairs


def _as_dpo(stage: Stage) -> TrainSettings:
    """The DPO settings under which the reference model is loaded and run; nothing is trained with them."""
    settings = stage.settings
    assert isinstance(settings, ReferenceSettings)
    return TrainSettings(
        kind="dpo",
        model=settings.model,
        tuning=settings.tuning,
        lora=settings.lora,
        dtype=settings.dtype,
        master_weights=settings.master_weights,
        effective_batch=settings.micro_batch,
        micro_batch=settings.micro_batch,
        max_length=settings.max_length,
        gradient_checkpointing=False,
        reference="precomputed",
        nll="completion",
        arguments=settings.arguments,
    )


def _batches(
    trainer: PretokenizedDPOTrainer, parts: Parts, observer: Observer
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probs of chosen and rejected, each (pairs of the batch,), in the order of the pairs."""
    loader = DataLoader(
        trainer.train_dataset, batch_size=parts.settings.micro_batch, collate_fn=trainer.data_collator
    )
    for number, batch in enumerate(trainer.accelerator.prepare(loader), start=1):
        chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)
        yield chosen.float().cpu(), rejected.float().cpu()
        observer.progress(number, len(loader))
