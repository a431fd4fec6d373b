"""Reference log-probs computed once and read by every DPO stage that starts from the same policy on the same pairs."""

from __future__ import annotations

from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, concatenate_datasets, load_from_disk
from torch.utils.data import DataLoader

from pipelines.data.prepared import read_split, read_tokenizer
from pipelines.errors import PipelineError
from pipelines.models import load_policy, starting_hash
from pipelines.outcomes import ReferenceOutcome
from pipelines.positions import require_readable
from pipelines.stages import Observer, ReferenceSettings, Stage, TrainSettings
from pipelines.training.arguments import shared_arguments
from pipelines.training.dpo import dpo_trainer
from pipelines.training.evidence import STORED, probe, probe_rows, read_stored
from pipelines.training.feed import REFERENCE_COLUMNS
from pipelines.training.footprint import work_of
from pipelines.training.parts import Parts
from pipelines.training.watching import TokenCount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.training.dpo import PretokenizedDPOTrainer

LOGPS = "logps"
WRITTEN_AT_ONCE = 1000  # pairs
SCHEMA = pa.schema([("uid", pa.string()), *((column, pa.float32()) for column in REFERENCE_COLUMNS)])


def compute_reference(stage: Stage, folder: Path, observer: Observer) -> ReferenceOutcome:
    """Leave `folder/logps`: `uid`, `ref_chosen_logps` and `ref_rejected_logps` of every training pair, and `reference.json`.

    TRL's own function computes them, so that a stored reference and one in memory give DPO the same loss.

    Raises:
        PipelineError: the model does not load, or cannot read pairs so long.
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
        require_readable(parts.policy, parts.pairs)
        started_from = starting_hash(stage, folder)
        probed = probe(parts.policy, probe_rows(parts.pairs))
    with observer.phase("data"):
        trainer = dpo_trainer(parts, shared_arguments(as_dpo, folder))
    with TemporaryDirectory(dir=folder) as scratch:
        written = Path(scratch) / "logps.arrow"
        with observer.phase("reference"), TokenCount(parts.policy) as counted:
            _write(written, _rows(trainer, parts, observer))
        with observer.phase("save"):
            Dataset.from_file(str(written)).save_to_disk(folder / LOGPS)
            outcome = ReferenceOutcome(
                num_pairs=len(parts.pairs),
                num_reference_tokens=counted.num_reference_tokens,
                weights_hash=started_from,
                probe=probed,
                work=work_of(parts.policy, counted),
            )
            (folder / STORED).write_text(outcome.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return outcome


def with_reference(pairs: Dataset, folder: Path, *, started_from: str | None) -> Dataset:
    """`pairs` with their reference log-probs as columns, which stay on disk as the pairs do.

    Args:
        pairs: The training pairs that the reference stage saw, in that order.
        folder: The reference stage's.
        started_from: `starting_hash` of the stage that reads them.

    Raises:
        PipelineError: the log-probs are of other weights, or of other pairs.
    """
    noted = read_stored(folder)
    if noted is not None and noted.weights_hash not in (None, started_from):
        raise PipelineError(
            f"{folder.name}: its log-probs are of other weights than those that training starts from, which were made again "
            "since. Delete that folder and run again."
        )
    stored = load_from_disk(folder / LOGPS)
    for uid, of in zip_longest(pairs["uid"], stored["uid"]):
        if uid != of:
            raise PipelineError(
                f"{folder.name}: has no log-probs of pair {uid or of!r} in its place. Delete that folder and run again."
            )
    return concatenate_datasets([pairs, stored.select_columns(list(REFERENCE_COLUMNS))], axis=1)


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


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        while batch := list(islice(rows, WRITTEN_AT_ONCE)):
            stream.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))


def _rows(trainer: PretokenizedDPOTrainer, parts: Parts, observer: Observer) -> Iterator[dict[str, Any]]:
    """A row of `SCHEMA` for each pair, in their order."""
    uids = iter(parts.pairs["uid"])
    loader = DataLoader(
        trainer.train_dataset, batch_size=parts.settings.micro_batch, collate_fn=trainer.data_collator
    )
    for number, batch in enumerate(trainer.accelerator.prepare(loader), start=1):
        both = (side.float().tolist() for side in trainer.compute_ref_log_probs(trainer.model, batch))
        for values in zip(*both, strict=True):
            yield {"uid": next(uids), **dict(zip(REFERENCE_COLUMNS, values, strict=True))}
        observer.progress(number, len(loader))
