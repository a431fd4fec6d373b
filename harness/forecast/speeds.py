"""The best that is known of each stage's speed: measured now, else earlier, else a share of the device's peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.forecast.ask import Ask
from harness.forecast.devices import Device, free_bytes
from harness.forecast.duration import Load, Speed, calibrated, of_peak, of_records
from harness.forecast.history import Earlier, rates
from pipelines.forecast.request import CalibrationRequest, ForecastRequest, StageAnswer
from pipelines.stages import TrainSettings


@dataclass(frozen=True)
class Job:
    """A distinct training stage: what it needs and how much it has to do.

    Attributes:
        rehearsal: What it shares with stages that need as much memory and work for a micro-batch.
        completion_share: Of its sequences' tokens, those of replies.
    """

    settings: TrainSettings
    answer: StageAnswer
    load: Load
    rehearsal: str
    completion_share: float


def speeds(
    jobs: list[Job],
    device: Device,
    *,
    history: list[Earlier],
    calibrate: bool,
    threads: int,
    ask: Ask,
    notes: list[str],
) -> list[Speed]:
    """The speed of each job.

    Args:
        jobs: Distinct training stages.
        device: Where they run.
        history: Earlier forecasts and what was measured.
        calibrate: Whether a few real steps of each are run.
        threads: Of a stage.
        ask: Asks the forecast's process.
        notes: Gets what could not be timed.
    """
    measured = _calibrations(jobs, device, threads, ask, notes) if calibrate else {}
    found = []
    for job in jobs:
        settings = job.settings
        earlier = rates(
            history, device=device.name, kind=settings.kind, tuning=settings.tuning, dtype=settings.dtype
        )
        known = measured.get(job.rehearsal)
        found.append(known or (of_records(earlier) if earlier else of_peak(device, settings)))
    return found


def _calibrations(
    jobs: list[Job], device: Device, threads: int, ask: Ask, notes: list[str]
) -> dict[str, Speed]:
    """Real steps of every stage that fits this machine, if it is the target; each in a fresh process."""
    if not device.is_here:
        notes.append(f"--calibrate times this machine, and the forecast is for {device.name}: not done")
        return {}
    free = free_bytes(device.kind)
    found: dict[str, Speed] = {}
    for job in {job.rehearsal: job for job in jobs}.values():
        settings, answer = job.settings, job.answer
        peak = max(sum(parts.values()) for parts in answer.phases.values())
        if settings.tuning == "qlora":
            notes.append(f"--calibrate: a {settings.kind} stage with 4-bit weights is not timed")
            continue
        if free is not None and peak > free:
            notes.append(f"--calibrate: a {settings.kind} stage needs more memory than is free, not timed")
            continue
        found[job.rehearsal] = calibrate_job(job, device.kind, threads, ask)
    return found


def calibrate_job(job: Job, device: Literal["cpu", "cuda"], threads: int, ask: Ask) -> Speed:
    """The speed of a few real steps with random weights, every sequence of the mean length to which the job's are padded."""
    settings, answer, work = job.settings, job.answer, job.answer.work
    request = calibration_of(job, device, threads)
    (times,) = ask(ForecastRequest(device=device, calibrations=[request])).calibrations
    share = request.length / answer.length
    in_step = settings.reference != "precomputed"
    matmul = work.matmul_flops + in_step * work.reference_matmul_flops
    attention = work.attention_flops + in_step * work.reference_attention_flops
    return calibrated(times, matmul * share + attention * share**2)


def calibration_of(job: Job, device: Literal["cpu", "cuda"], threads: int) -> CalibrationRequest:
    """A few real steps of a job, at the mean length to which its sequences are padded."""
    return CalibrationRequest(
        settings=job.settings,
        length=max(8, round(job.load.mean_length)),
        completion_share=job.completion_share,
        threads=threads,
        device=device,
    )
