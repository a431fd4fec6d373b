"""What a finished stage leaves: `record.json`. Versioned, machine-readable, written once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.reserve import with_room
from pipelines.stages import Outcome, Stage, Strict

RECORD = "record.json"
ITEMS = "items.jsonl"
PROMPT = "prompt"  # column of items.jsonl: hash of the prompt, the same for items that belong together
NEAR_TIES = "near_ties"  # column of items.jsonl: places of a greedy reply where the two likeliest tokens are nearly equal
IN_BATCHES_OF = (
    "_in_batches_of_"  # between a column's name and a size: the same number from batches of another size
)
LOSSES = "losses.jsonl"
REPLIES = "replies.jsonl"
JUDGEMENTS = "judgements.jsonl"
LOG = "log.txt"
VALIDATION = "validation.jsonl"
CHECKPOINTS = "checkpoints"
UNBILLED = "validate"  # the phase in which a training stage looks at validation pairs: no part of what training costs

# docs/failures.md says of each what is seen and what to do.
Status = Literal[
    "done",
    "failed",
    "out_of_memory",
    "not_finite",
    "diverged",
    "hung",
    "timed_out",
    "killed",
    "damaged",
    "disk_full",
    "bad_data",
    "does_not_load",
    "no_access",
    "unreachable",
    "interrupted",
]


class Missing(Strict):
    """A quantity that could not be had, and why. Never 0, never a guess."""

    reason: str


class PhaseCost(Strict):
    """What one phase of a stage cost."""

    name: Literal[
        "start", "load", "data", "reference", "train", "validate", "evaluate", "save", "repeated", "other"
    ] = Field(
        description="`repeated`: what a stage that was killed and resumed had to do again: starting, loading, "
        "reference log-probs. `validate`: looks at validation pairs while a policy trains."
    )  # fmt: skip
    seconds: float
    peak_resident_bytes: int | Missing = Field(
        description="Highest resident memory of the process in this phase."
    )
    peak_cuda_allocated_bytes: int | Missing
    peak_cuda_reserved_bytes: int | Missing


class Cost(Strict):
    """What a stage cost. Phases sum to `total_seconds`."""

    total_seconds: float = Field(description="From the start of the process to its record, all phases.")
    train_seconds: float = Field(
        description="Training loop, and reference log-probs computed before it; 0 for a stage that does not train. Of a "
        "resumed stage: up to its checkpoint and after it; steps that a kill threw away are not in it. Making "
        "checkpoints is phase `save`."
    )
    num_resumes: int = Field(
        0, description="How often the stage went on from a checkpoint after it was killed."
    )
    phases: list[PhaseCost]
    peak_memory_bytes: int = Field(
        description="On CUDA the allocator's reserved peak, else peak resident memory, of all phases but `validate`."
    )
    peak_memory_kind: Literal["cuda_reserved", "resident"]
    peak_device_memory_bytes: int | Missing = Field(description="The device's own figure (NVML), sampled.")
    sample_seconds: float = Field(description="Period of the sampler.")

    @property
    def billed_seconds(self) -> float:
        """`total_seconds` less the looks at validation pairs: an arm of two stages has more of them than one of one."""
        return self.total_seconds - sum(phase.seconds for phase in self.phases if phase.name == UNBILLED)


class Machine(Strict):
    """The hardware, without anything that names a host or a user."""

    processor: str
    num_cores: int
    memory_bytes: int
    accelerator: str | None
    accelerator_memory_bytes: int | None
    driver: str | None


class Failure(Strict):
    """Why a stage did not finish."""

    message: str = Field(description="One line for a person.")
    evidence: str = Field(description="The last lines of the stage's log.")
    advice: str = Field("", description="What to do, one sentence.")


class Record(Strict):
    """One stage: what went in, what came out, what it cost, on what machine."""

    schema_version: Literal[1] = Field(1, alias="schema")
    stage: Stage
    status: Status
    outcome: Outcome | None
    failure: Failure | None = None
    cost: Cost | None
    machine: Machine
    versions: dict[str, str] = Field(description="Python and the libraries that matter.")
    git_commit: str | None
    start_method: str | None = Field(
        None,
        description="`forkserver` or `spawn`; null where the stage was started by hand, or before this was kept.",
    )
    num_attempts: int = Field(
        1, description="Processes that this run started for it; `retries` allows more than one."
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of each file that later stages read, by its path in the folder.",
    )
    started_at: str = Field(description="UTC, ISO 8601.")
    decision_hash: str | None = Field(
        None,
        description="The decision rule in force when the stage ran; null: a version that did not keep it.",
    )


def read_record(folder: Path) -> Record | None:
    """The record of the stage in `folder`, or None where there is none."""
    path = folder / RECORD
    if not path.is_file():
        return None
    return Record.model_validate_json(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON so that a reader, or a crash, sees the old file or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_record(folder: Path, record: Record) -> None:
    """Write `record` into `folder`, synced to disk; on a full disk into the space that the run has held back."""
    content = record.model_dump(mode="json", by_alias=True)
    with_room(folder.parent, lambda: write_json(folder / RECORD, content))
