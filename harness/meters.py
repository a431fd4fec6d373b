"""What a stage costs: seconds, memory, energy and other load by phase. Runs inside the stage's own process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.contention import Processors, contention
from harness.device_sampler import DeviceSampler
from harness.peaks import Peaks
from harness.records import UNBILLED, Cost, Missing, PhaseCost, highest, total
from pipelines.outcomes import TensorBytes
from pipelines.stages import Phase

TRAIN_PHASES = ("reference", "train")
# A resumed stage goes on with these; everything else it does again.
CONTINUED = ("train", "validate", "save", "repeated")
# Fields of `PhaseCost` that add up, as its seconds do, and those of which the highest counts.
SUMS = ("other_processor_seconds", "energy_joules", "waiting_seconds", "warm_up_seconds")
PEAKS = (
    "peak_resident_bytes",
    "peak_cuda_allocated_bytes",
    "peak_cuda_reserved_bytes",
    "peak_device_memory_bytes",
    "num_other_gpu_processes",
)


@dataclass(frozen=True)
class Instruments:
    """What a meter reads whenever a phase ends.

    Attributes:
        resident: Peak resident memory.
        allocated, reserved: Peaks of CUDA's allocator; without CUDA, reasons.
        device: The GPU; without one, reasons.
        processors: Who took the processors' time.
        on_gpu: Whether the stage computes on a GPU.
        workers: Stages of this run that may run at a time.
    """

    resident: Peaks
    allocated: Peaks
    reserved: Peaks
    device: DeviceSampler
    processors: Processors
    on_gpu: bool
    workers: int = 1

    def peaks(self) -> tuple[Peaks, ...]:
        """In the order of `PEAKS`."""
        device = self.device
        return self.resident, self.allocated, self.reserved, device.memory, device.other_processes

    def totals(self) -> dict[str, float | Missing]:
        """Quantities that grow from now on, by their names in `SUMS`."""
        return {
            "other_processor_seconds": self.processors.other_seconds(),
            "energy_joules": self.device.energy.read(),
        }


class Meter:
    """The `Observer` of a stage: times its phases and reads the instruments at their borders.

    Args:
        launched_at: `time.monotonic()` of the parent when it launched this process, in seconds; the clock
            is the machine's, so the difference is the time that the process took to start.
        report: Called with (phase, done, total) as the stage goes on.
        instruments: What is read.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        launched_at: float,
        report: Callable[[str, int, int], None],
        instruments: Instruments,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._report, self._instruments = clock, report, instruments
        self._launched_at = launched_at
        self._phases: dict[str, PhaseCost] = {}
        self._open: str | None = None
        self._mark, self._before = launched_at, 0.0
        self._totals: dict[str, float | Missing] = {}
        self._of_phase: dict[str, float] = {}  # waiting and warm-up since the last mark
        self._is_warm = False
        self._earlier_seconds, self._num_resumes = 0.0, 0
        self._close("start")

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Everything inside belongs to phase `name`; a phase that comes again adds to its first time."""
        if self._open is not None:
            raise RuntimeError(f"phase {name!r} inside phase {self._open!r}: phases do not nest")
        self._close("other")
        self._open, self._before = name, self._seconds_of(name)
        self._report(name, 0, 0)
        try:
            yield
        finally:
            self._close(name)
            self._open = None

    @contextmanager
    def aside(self, name: Phase) -> Iterator[None]:
        """Everything inside belongs to phase `name`, though another is open."""
        interrupted = self._open
        self._close(interrupted or "other")
        self._open = name  # so that `state` and `seconds`, asked for inside, count the time up to now to it
        try:
            yield
        finally:
            self._close(name)
            self._open = interrupted

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Everything inside is waiting for the data loader, and part of the open phase."""
        began = self._clock()
        try:
            yield
        finally:
            waited = self._of_phase.get("waiting_seconds", 0.0)
            self._of_phase["waiting_seconds"] = waited + self._clock() - began

    def seconds(self) -> dict[str, float]:
        """Seconds up to now by phase."""
        self._close(self._open or "other")
        return {phase.name: phase.seconds for phase in self._phases.values()}

    def joules(self) -> float | None:
        """Energy up to now of what is billed; None where the device has no meter for it."""
        self._close(self._open or "other")
        used = total(phase.energy_joules for phase in self._phases.values() if phase.name != UNBILLED)
        return used if isinstance(used, float) else None

    def state(self) -> dict[str, Any]:
        """What the stage has cost up to now, to be kept with a checkpoint."""
        self._close(self._open or "other")
        return {
            "phases": [phase.model_dump(mode="json") for phase in self._phases.values()],
            "num_resumes": self._num_resumes,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Add what was spent, up to the checkpoint, by the processes before this one."""
        for dumped in state["phases"]:
            earlier = PhaseCost.model_validate(dumped)
            name = earlier.name if earlier.name in CONTINUED else "repeated"
            self._add(earlier.model_copy(update={"name": name}))
            self._earlier_seconds += earlier.seconds
        self._num_resumes = state["num_resumes"] + 1

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` units of the present phase are finished; the first of training was its warm-up."""
        if self._open == "train" and not self._is_warm:
            self._is_warm = True
            up_to_mark = self._seconds_of("train") - self._before
            self._of_phase["warm_up_seconds"] = up_to_mark + self._clock() - self._mark
        self._report(self._open or "other", done, total)

    def cost(self) -> Cost:
        """What the stage has cost up to now."""
        self._close("other")
        phases, instruments = list(self._phases.values()), self._instruments
        billed = [phase for phase in phases if phase.name != UNBILLED]
        training = [phase for phase in phases if phase.name in TRAIN_PHASES]
        reserved = [p.peak_cuda_reserved_bytes for p in billed if isinstance(p.peak_cuda_reserved_bytes, int)]
        resident = [p.peak_resident_bytes for p in billed if isinstance(p.peak_resident_bytes, int)]
        others = contention(
            training or phases,
            num_processors=instruments.processors.count,
            on_gpu=instruments.on_gpu,
            workers=instruments.workers,
        )
        return Cost(
            total_seconds=self._earlier_seconds + self._mark - self._launched_at,
            num_resumes=self._num_resumes,
            train_seconds=math.fsum(phase.seconds for phase in training),
            phases=phases,
            peak_memory_bytes=max(reserved or resident, default=None),
            peak_memory_kind="cuda_reserved" if reserved else "resident",
            peak_device_memory_bytes=highest(phase.peak_device_memory_bytes for phase in billed),
            sample_seconds=instruments.device.period_seconds,
            warm_up_seconds=total(phase.warm_up_seconds for phase in training),
            waiting_seconds=total(phase.waiting_seconds for phase in training),
            energy_joules=total(phase.energy_joules for phase in billed),
            energy_method=instruments.device.energy.method,
            contended=others.contended,
            other_processor_share=others.processor_share,
            num_other_gpu_processes=others.num_gpu_processes,
            workers=instruments.workers,
        )

    def _seconds_of(self, name: str) -> float:
        return self._phases[name].seconds if name in self._phases else 0.0

    def _close(self, name: str) -> None:
        """Give the time, and what the instruments show since the last mark, to phase `name`."""
        now = self._clock()
        peaks, totals = self._instruments.peaks(), self._instruments.totals()
        values: dict[str, Any] = {field: peak.read() for field, peak in zip(PEAKS, peaks, strict=True)}
        if self._totals:
            values |= {field: _grown(self._totals[field], now_total) for field, now_total in totals.items()}
        self._add(PhaseCost(name=name, seconds=now - self._mark, **values, **self._of_phase))
        for peak in peaks:
            peak.reset()
        self._mark, self._totals, self._of_phase = now, totals, {}

    def _add(self, new: PhaseCost) -> None:
        before = self._phases.get(new.name)
        self._phases[new.name] = new if before is None else _sum(before, new)


def activations(cost: Cost, held: TensorBytes) -> int | Missing:
    """What the peak of a training had beyond the tensors that it held all along.

    A lower bound: at the peak not all gradients need have been there.

    Args:
        cost: Of the stage.
        held: Weights, gradients, optimizer states.
    """
    peak = next((phase.peak_cuda_allocated_bytes for phase in cost.phases if phase.name == "train"), None)
    if not isinstance(peak, int):
        return peak or Missing(reason="the stage did not train")
    return max(0, peak - int(sum(held.model_dump().values())))


def _sum(first: PhaseCost, second: PhaseCost) -> PhaseCost:
    """Seconds and the like add up, peaks do not."""
    combined: dict[str, Any] = {
        field: highest((getattr(first, field), getattr(second, field))) for field in PEAKS
    }
    combined |= {field: total((getattr(first, field), getattr(second, field))) for field in SUMS}
    return PhaseCost(name=first.name, seconds=first.seconds + second.seconds, **combined)


def _grown(before: float | Missing, now: float | Missing) -> float | Missing:
    """By how much; rounding of the kernel's counts can make it look like a little less than nothing."""
    if isinstance(before, Missing) or isinstance(now, Missing):
        return before if isinstance(before, Missing) else now
    return max(0.0, now - before)
