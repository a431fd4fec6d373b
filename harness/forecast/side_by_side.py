"""What several processes at a time achieve on this machine's processor: real steps of the comparison's own stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from harness.concurrency import Pair, Tried
from harness.forecast.ask import AskTogether, ask_together_through
from harness.forecast.bill import overhead
from harness.forecast.devices import free_bytes
from harness.forecast.history import STATED_ERROR
from harness.forecast.make import Asked, distinct_jobs
from harness.forecast.speeds import Job, calibration_of
from harness.launch import Launcher
from harness.plan import Plan
from pipelines.forecast.request import ForecastAnswer, ForecastRequest

FIRST_STEPS, MOST_STEPS = 3, 60  # optimizer steps of each kind of stage; the first does not count
SECONDS = 5.0  # that a measurement should last, if that many steps are enough


def measure_side_by_side(
    plan: Plan, pairs: Sequence[Pair], *, results: Path, launcher: Launcher
) -> list[Tried]:
    """Try out each pair that memory holds.

    Args:
        plan: The comparison as far as it is known.
        pairs: Threads of a stage, stages at a time.
        results: Folder of results, for the lengths of prepared data.
        launcher: Starts the processes, as it does a run's stages.

    Raises:
        UserError: the model's shape is not known here, or the data is malformed.
        RuntimeError, TimeoutError: a process failed, or took too long.
    """
    together = ask_together_through(launcher)
    asked = Asked(results=results, fits=False, ask=lambda request: together([request])[0])
    jobs = distinct_jobs(plan, asked)
    most = most_in_memory(jobs, free_bytes("cpu"))
    return try_out(jobs, dict.fromkeys((threads, min(workers, most)) for threads, workers in pairs), together)


def try_out(jobs: Sequence[Job], pairs: Sequence[Pair] | dict[Pair, None], ask: AskTogether) -> list[Tried]:
    """What each pair achieves, every process training each job for a few steps."""

    def answers(threads: int, workers: int, num_steps: int) -> list[ForecastAnswer]:
        steps = [
            calibration_of(job, "cpu", threads).model_copy(update={"num_steps": num_steps}) for job in jobs
        ]
        return ask([ForecastRequest(device="cpu", calibrations=steps)] * workers)

    (first,) = answers(next(iter(pairs))[0], 1, FIRST_STEPS)
    num_steps = min(MOST_STEPS, max(FIRST_STEPS, 1 + math.ceil(SECONDS / round_seconds(jobs, first))))
    return [
        Tried(
            threads=threads,
            workers=workers,
            steps_per_second=math.fsum(
                1 / round_seconds(jobs, answer) for answer in answers(threads, workers, num_steps)
            ),
        )
        for threads, workers in pairs
    ]


def round_seconds(jobs: Sequence[Job], answer: ForecastAnswer) -> float:
    """What one optimizer step of each job took a process."""
    return math.fsum(
        fmean(times.micro_seconds) * (job.settings.effective_batch // job.settings.micro_batch)
        + fmean(times.optimizer_seconds)
        for job, times in zip(jobs, answer.calibrations, strict=True)
    )


def most_in_memory(jobs: Sequence[Job], free: int | None) -> int:
    """How many of the largest job fit at a time, at least 1, by a forecast with its own error on top."""
    tensors = max(sum(parts.values()) for job in jobs for parts in job.answer.phases.values())
    each = (tensors + overhead(tensors, "cpu")) * (1 + STATED_ERROR)
    return max(1, int((free or 0) // each))
