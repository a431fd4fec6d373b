"""One training stage of a forecast: its memory by phase, with the allocator's overhead, and what fits cards."""

from __future__ import annotations

from harness.forecast.bill import CONTEXT_BYTES, overhead
from harness.forecast.devices import CARDS_BYTES, Device
from harness.forecast.duration import Speed, seconds_of
from harness.forecast.schema import Fit, Parts, PhaseForecast, StageForecast
from harness.forecast.speeds import Job
from pipelines.forecast.request import PARTS, PartBytes
from pipelines.stages import TrainSettings


def stage_forecast(job: Job, speed: Speed, device: Device) -> StageForecast:
    """What a distinct stage will need."""
    settings, answer, load = job.settings, job.answer, job.load
    phases = {phase: _phase(parts, device) for phase, parts in answer.phases.items()}
    peak = max(phase.peak_memory_bytes for phase in phases.values())
    largest = {**answer.largest, "overhead": max(phase.parts.overhead_bytes for phase in phases.values())}
    return StageForecast(
        kind=settings.kind,
        variant=", ".join(
            filter(
                None,
                (
                    settings.reference and f"{settings.reference} reference",
                    settings.implementation,
                    settings.tuning,
                ),
            )
        ),
        peak_memory_bytes=peak,
        phases=phases,
        parts=_parts(largest),
        method=answer.method,
        length=answer.length,
        num_steps=load.num_steps,
        flops=load.flops,
        seconds=seconds_of(load, speed),
        throughput=speed.flops_per_second,
        throughput_source=speed.source,
        disk_bytes=answer.weights_bytes,
        fits=[_fit(size, settings, answer.peak_by_micro_batch) for size in CARDS_BYTES]
        if answer.peak_by_micro_batch
        else [],
    )


def _phase(parts: PartBytes, device: Device) -> PhaseForecast:
    whole: PartBytes = {**parts, "overhead": overhead(sum(parts.values()), device.kind)}
    return PhaseForecast(peak_memory_bytes=sum(whole.values()), parts=_parts(whole))


def _parts(found: PartBytes) -> Parts:
    return Parts(**{f"{part}_bytes": found.get(part, 0) for part in PARTS})


def _fit(card_bytes: int, settings: TrainSettings, peaks: dict[int, int]) -> Fit:
    """The largest micro-batch whose peak, with a CUDA allocator's overhead and the driver's own, fits the card."""
    for size in sorted(peaks, reverse=True):
        peak = peaks[size] + overhead(peaks[size], "cuda")
        if peak + CONTEXT_BYTES <= card_bytes:
            return Fit(
                card_bytes=card_bytes,
                micro_batch=size,
                accumulation=settings.effective_batch // size,
                peak_memory_bytes=peak,
            )
    return Fit(card_bytes=card_bytes, micro_batch=None, accumulation=None, peak_memory_bytes=None)


def divisors(number: int) -> list[int]:
    """Micro-batches that an effective batch can be cut into."""
    return [size for size in range(1, number + 1) if number % size == 0]
