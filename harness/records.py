"""What a finished stage leaves: `record.json`. Versioned, machine-readable, written once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from harness.reserve import with_room
from pipelines.outcomes import Outcome
from pipelines.stages import Count, Quantity, Stage, Strict

RECORD = "record.json"
ITEMS = "items.jsonl"
PROMPT = "prompt"  # column of items.jsonl: hash of the prompt, the same for items that belong together
GOLD_PART = (
    "gold_part_"  # begins the columns of items.jsonl that hold the parts of a greedy reply's gold score
)
REPLY_ID = "reply_id"  # column of a scoring judge's items.jsonl: a number that equal replies share
NEAR_TIES = "near_ties"  # column of items.jsonl: places of a greedy reply where the two likeliest tokens are nearly equal
IN_BATCHES_OF = (
    "_in_batches_of_"  # between a column's name and a size: the same number from batches of another size
)
LOSSES = "losses.jsonl"
REPLIES = "replies.jsonl"
WEIGHTS_BY_LAYER = "weights.jsonl"
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

Number = TypeVar("Number", int, float)
Read = TypeVar("Read", bound=Strict)


class Missing(Strict):
    """A quantity that could not be had, and why. Never 0, never a guess."""

    reason: str


def total(values: Iterable[float | Missing | None]) -> float | Missing | None:
    """Their sum; missing where one is. Those that are None do not count; None where all are."""
    found = _present(values)
    if isinstance(found, Missing):
        return found
    return math.fsum(found) if found else None


def highest(values: Iterable[int | Missing | None]) -> int | Missing | None:
    """The highest; missing where one is. Those that are None do not count; None where all are."""
    found = _present(values)
    if isinstance(found, Missing):
        return found
    return max(found, default=None)


def _present(values: Iterable[Number | Missing | None]) -> list[Number] | Missing:
    found: list[Number] = []
    for value in values:
        if isinstance(value, Missing):
            return value
        if value is not None:
            found.append(value)
    return found


class PhaseCost(Strict):
    """What one phase of a stage cost."""

    name: Literal[
        "start", "load", "data", "reference", "train", "validate", "evaluate", "save", "repeated", "other"
    ] = Field(
        description="`repeated`: what a stage that was killed and resumed had to do again: starting, loading, "
        "reference log-probs. `validate`: looks at validation pairs while a policy trains."
    )  # fmt: skip
    seconds: Quantity
    peak_resident_bytes: Count | Missing = Field(
        description="Highest resident memory of the process in this phase."
    )
    peak_cuda_allocated_bytes: Count | Missing
    peak_cuda_reserved_bytes: Count | Missing
    peak_device_memory_bytes: Count | Missing | None = Field(
        None, description="The device's own figure (NVML), sampled, all processes together."
    )
    num_other_gpu_processes: Count | Missing | None = Field(
        None, description="The most processes outside this stage that had a context on the GPU at a time."
    )
    other_processor_seconds: Quantity | Missing | None = Field(
        None,
        description="Time that processes outside this run took of the processors that the stage may use; null before the "
        "meters ran.",
    )
    energy_joules: Quantity | Missing | None = Field(
        None, description="What the GPU's board used; null before the meters ran."
    )
    waiting_seconds: Quantity | None = Field(
        None, description="Of `seconds`: waiting for the data loader. null: the phase has none."
    )
    warm_up_seconds: Quantity | None = Field(
        None,
        description="Of `seconds`: up to the end of the first optimizer step, of each process that a resumed stage had.",
    )


class Cost(Strict):
    """What a stage cost. Phases sum to `total_seconds`. A field that is null is of a version that did not measure it."""

    total_seconds: Quantity = Field(description="From the start of the process to its record, all phases.")
    train_seconds: Quantity = Field(
        description="Training loop, and reference log-probs computed before it; 0 for a stage that does not train. Of a "
        "resumed stage: up to its checkpoint and after it; steps that a kill threw away are not in it. Making "
        "checkpoints is phase `save`."
    )
    num_resumes: Count = Field(
        0, description="How often the stage went on from a checkpoint after it was killed."
    )
    phases: list[PhaseCost]
    peak_memory_bytes: Count = Field(
        description="On CUDA the allocator's reserved peak, else peak resident memory, of all phases but `validate`."
    )
    peak_memory_kind: Literal["cuda_reserved", "resident"]
    peak_device_memory_bytes: Count | Missing = Field(description="The device's own figure (NVML), sampled.")
    sample_seconds: Quantity = Field(description="Period of the sampler.")
    warm_up_seconds: Quantity | None = Field(
        None,
        description="Of `train_seconds`: training up to the end of its first optimizer step. Without it: the steady total. "
        "null also for a stage that does not train.",
    )
    waiting_seconds: Quantity | None = Field(
        None,
        description="Of `train_seconds`: waiting for the data loader. null also for a stage without one.",
    )
    energy_joules: Quantity | Missing | None = Field(
        None,
        description="What the GPU's board used from the start of the meters to the record, in all phases but `validate`.",
    )
    energy_method: Literal["counter", "power_samples"] | None = Field(
        None,
        description="The device's own counter, or its power summed over samples; null: no energy was measured.",
    )
    activations_bytes: Count | Missing | None = Field(
        None,
        description="At least so much of the allocated peak while it trained was activations and other temporary tensors: the "
        "peak less the outcome's `tensor_bytes`. null for a stage that does not train.",
    )
    contended: bool | Missing | None = Field(
        None,
        description="Whether another process used the GPU, or others took more than 5 % of the processors' time, while the "
        "stage trained or, where it trains nothing, while it ran. True as well with more than one of `workers`.",
    )
    other_processor_share: Quantity | Missing | None = Field(
        None, description="What others took of the processors' time then, 0 to 1."
    )
    num_other_gpu_processes: Count | Missing | None = Field(
        None, description="The most other processes on the GPU at a time then."
    )
    workers: Count = Field(
        1,
        description="Stages of its run that could run at a time; with more than 1 (`metering: relaxed`) it is `contended`.",
    )

    @property
    def steady_train_seconds(self) -> float | None:
        """`train_seconds` without the warm-up."""
        return None if self.warm_up_seconds is None else self.train_seconds - self.warm_up_seconds

    @property
    def billed_seconds(self) -> float:
        """`total_seconds` less the looks at validation pairs: an arm of two stages has more of them than one of one."""
        return self.total_seconds - sum(phase.seconds for phase in self.phases if phase.name == UNBILLED)


class Machine(Strict):
    """The hardware, without anything that names a host or a user."""

    processor: str
    num_cores: Count
    memory_bytes: Count
    accelerator: str | None
    accelerator_memory_bytes: Count | None
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
    num_attempts: Count = Field(
        1, description="Processes that this run started for it; `retries` allows more than one."
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of each file that later stages or reports read, by its path in the folder.",
    )
    started_at: str = Field(description="UTC, ISO 8601.")
    decision_hash: str | None = Field(
        None,
        description="The decision rule in force when the stage ran; null: a version that did not keep it.",
    )


def read_record(folder: Path) -> Record | None:
    """The record of the stage in `folder`, or None where there is none.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read; a folder of its name, for one.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    return Record.model_validate_json(path.read_bytes())


def sound_record(folder: Path) -> Record | None:
    """The record of the stage in `folder`, or None where there is none that can be read: the stage is as good as not run."""
    try:
        return read_record(folder)
    except (ValueError, OSError):
        return None


def finite(read: Read) -> Read:
    """What was read from a file, if every number in it is finite.

    Raises:
        ValueError: one is not.
    """
    json.dumps(read.model_dump(mode="json"), allow_nan=False)
    return read


def append_line(path: Path, line: str) -> None:
    """Add a line, synced. A kill or a full disk may have left half of one before it, which must not be glued to it."""
    with path.open("a+b") as file:
        torn = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(b"\n" * torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def is_torn(line: str) -> bool:
    """Whether a line of JSON objects was cut off while it was written: it begins as one and does not end."""
    return line.startswith("{") and not line.rstrip().endswith("}")


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
