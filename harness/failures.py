"""What kind of failure an exception or a dead process is, and what a person can do about it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOMEM

from harness.records import Status
from harness.reserve import FULL
from pipelines.errors import Diverged, DoesNotLoad, NotFinite, PipelineError
from pipelines.stages import EvaluateSettings, JudgeSettings, Stage, TrainSettings

# Worth another attempt by themselves: the same stage can succeed without anybody changing anything.
TRANSIENT: frozenset[Status] = frozenset({"killed", "hung", "unreachable"})

# Exceptions of libraries that are not loaded here are told by the names of their classes.
OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError", "ArrowMemoryError")
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "std::bad_alloc", "CUDA out of memory", "_ALLOC_FAILED")
NO_ACCESS = ("GatedRepoError", "RepositoryNotFoundError", "DisabledRepoError")
NO_ACCESS_TEXTS = ("gated repo", "401 Client Error", "403 Client Error")
UNREACHABLE = (
    "ConnectionError",
    "ConnectError",
    "ConnectTimeout",
    "ReadTimeout",
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
    "MaxRetryError",
)
UNREACHABLE_TEXTS = ("couldn't connect to", "Connection refused", "Temporary failure in name resolution")
DAMAGED = ("SafetensorError", "ArrowInvalid", "UnpicklingError", "BadZipFile", "BadGzipFile")
NO_SPACE_TEXTS = ("No space left on device", "os error 28", "Errno 28")


def status_of(error: Exception, stage: Stage) -> Status:
    """The status of a stage that ended with this exception."""
    chain = list(_chain(error))
    if isinstance(error, NotFinite):
        return "not_finite"
    if isinstance(error, Diverged):
        return "diverged"
    if any(_is_errno(one, *FULL) for one in chain) or _says(chain, NO_SPACE_TEXTS):
        return "disk_full"
    if _is(chain, OUT_OF_MEMORY) or _says(chain, OUT_OF_MEMORY_TEXTS) or _is_errno(error, ENOMEM):
        return "out_of_memory"
    # Before the connection: without a token the hub says that there is no such repository.
    if _is(chain, NO_ACCESS) or _says(chain, NO_ACCESS_TEXTS):
        return "no_access"
    if _is(chain, UNREACHABLE) or _says(chain, UNREACHABLE_TEXTS):
        return "unreachable"
    if stage.kind == "data" and isinstance(error, PipelineError) and not isinstance(error, DoesNotLoad):
        return "bad_data"
    if _is(chain, DAMAGED):
        return "bad_data" if stage.kind == "data" else "damaged"
    return "does_not_load" if isinstance(error, DoesNotLoad) else "failed"


def advice(status: Status, stage: Stage) -> str:
    """One sentence that says what to do; "the same command" only where it can end otherwise."""
    if status == "out_of_memory":
        return (
            f"Set workers to {stage.workers - 1} (it was {stage.workers})."
            if stage.workers > 1
            else smaller(stage)
        )
    if status == "timed_out":
        hours = stage.limits.stage_hours
        return f"Raise stage_hours (it was {hours:g}): the stage goes on from its last checkpoint, if it has one."
    if isinstance(stage.settings, JudgeSettings) and status in JUDGE_ADVICE:
        return JUDGE_ADVICE[status]
    if isinstance(stage.settings, EvaluateSettings) and status == "failed":
        return EVALUATION_ADVICE
    return ADVICE.get(status, "")


ADVICE: dict[Status, str] = {
    "failed": "Read the stage's log.txt: this is none of the failures that are known; the same command fails again.",
    "not_finite": "Lower this stage's learning_rate, or add warm-up steps; give every arm the same number of points to "
    "choose from. The same settings fail again.",
    "diverged": "Lower this stage's learning_rate, or add warm-up steps; give every arm the same number of points to "
    "choose from. The same settings fail again; divergence_factor says what counts as diverged.",
    "hung": "Look at the stacks at the end of the stage's log.txt; the same command goes on from the last checkpoint. "
    "Where a step only takes that long, raise hang_minutes.",
    "killed": "Find out who ended the process (`dmesg`, the batch system); the same command goes on from the last "
    "checkpoint.",
    "damaged": "Bring the named files back (of a stage's folder the same command sees to that, of a model's delete "
    "and load it anew).",
    "disk_full": "Free space on the results' disk (`prefduel gc`); the same command then goes on where it stopped.",
    "bad_data": "Mend the named row or file, or point data.path to another.",
    "does_not_load": "Set model.name to a model that this version of transformers loads, with its tokenizer beside it.",
    "no_access": "Check model.name; for a gated or private model ask for access on its page and set HF_TOKEN (or "
    "`hf auth login`) for the user who runs this.",
    "unreachable": "Bring the connection back, or put the files on this machine and set model.name or data.path to "
    "their folder; the same command then goes on.",
}


JUDGE_ADVICE: dict[Status, str] = {
    "failed": "Mend what the message names: the same command judges again, and trains and generates nothing.",
    "unreachable": "Bring the judge's endpoint, or the hub, back: the same command goes on, and answers that were had are kept.",
    "does_not_load": "Set the judge's model to a sequence classifier that this version of transformers loads; the same command "
    "judges again, and trains and generates nothing.",
}
EVALUATION_ADVICE = (
    "Mend what the message names, or read the stage's log.txt where it names nothing: the same command measures again, and "
    "trains nothing."
)


def smaller(stage: Stage) -> str:
    """Concrete smaller settings after a stage ran out of memory. Settings of `training` hold for all arms alike."""
    settings = stage.settings
    if isinstance(settings, EvaluateSettings):
        evaluation = settings.evaluation
        if evaluation.batch_size > 1:
            key = f"evaluations.{evaluation.group}.batch_size"
            return f"Set {key} to {evaluation.batch_size // 2} (it was {evaluation.batch_size}), for every model alike."
        return "Take a smaller model, or a machine with more memory: one sequence at a time does not fit."
    batch_size = getattr(settings.judge, "batch_size", 1) if isinstance(settings, JudgeSettings) else 1
    if batch_size > 1:
        return f"Set batch_size of this judge to {batch_size // 2} (it was {batch_size})."
    if not isinstance(settings, TrainSettings):
        return "Free memory, or take a machine with more: this stage has no smaller setting."
    effective, micro = settings.effective_batch, settings.micro_batch
    half = next((size for size in range(micro // 2, 0, -1) if effective % size == 0), None)
    if half is not None:
        return (
            f"Set training.micro_batch to {half} (it was {micro}); effective_batch stays {effective}, and all arms "
            "get the same."
        )
    if not settings.gradient_checkpointing:
        return "Set training.gradient_checkpointing to true, for all arms alike (micro_batch is 1 already)."
    if settings.reference == "copy":
        return "Set this DPO stage's reference to precomputed: it then holds one model, not two."
    if settings.tuning == "full":
        return "Set training.tuning to lora, for all arms alike: micro_batch is 1 and activations are recomputed already."
    return "Lower training.max_length, for all arms alike, or take a smaller model or a bigger device."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that led to it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def _is(chain: list[BaseException], names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for one in chain for kind in type(one).__mro__)


def _says(chain: list[BaseException], texts: tuple[str, ...]) -> bool:
    return any(text in str(one) for one in chain for text in texts)


def _is_errno(error: BaseException, *numbers: int) -> bool:
    return isinstance(error, OSError) and error.errno in numbers
