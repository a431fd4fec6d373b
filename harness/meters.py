"""What a stage costs: seconds and peak memory by phase. Runs inside the stage's own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.device_sampler import DeviceSampler
from harness.records import UNBILLED, Cost, Missing, PhaseCost
from pipelines.stages import Phase

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
TRAIN_PHASES = ("reference", "train")
# A resumed stage goes on with these; everything else it does again.
CONTINUED = ("train", "validate", "save", "repeated")


class Peaks(Protocol):
    """Peak memory since the last `reset`."""

    def reset(self) -> None:
        """Start a new measurement."""

    def read(self) -> int | Missing:
        """Bytes at the peak, or why they cannot be had."""


class ResidentPeak:
    """Peak resident memory of this process (Linux `VmHWM`), reset through `/proc/self/clear_refs`."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def reset(self) -> None:
        """Start a new measurement."""
        try:
            CLEAR_REFS.write_text("5")
        except OSError as error:
            self._reason = f"the kernel does not reset VmHWM here ({error.strerror})"

    def read(self) -> int | Missing:
        """Bytes at the peak; what the process shares with its fork server counts too."""
        if self._reason:
            return Missing(reason=self._reason)
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return Missing(reason="the kernel gives no VmHWM")


class CudaPeak:
    """A peak of torch's CUDA allocator."""

    def __init__(self, read: Callable[[], int], reset: Callable[[], None]) -> None:
        self._read, self._reset = read, reset

    def reset(self) -> None:
        """Start a new measurement."""
        self._reset()

    def read(self) -> int | Missing:
        """Bytes at the peak."""
        return self._read()


class NoPeak:
    """A peak that cannot be had on this machine."""

    def __init__(self, reason: str) -> None:
        self._missing = Missing(reason=reason)

    def reset(self) -> None:
        """Nothing to reset."""

    def read(self) -> int | Missing:
        """The reason."""
        return self._missing


def cuda_peaks() -> tuple[Peaks, Peaks]:
    """Allocated and reserved peaks of the current CUDA device; imports torch and initialises CUDA."""
    import torch

    reset = torch.cuda.reset_peak_memory_stats
    return CudaPeak(torch.cuda.max_memory_allocated, reset), CudaPeak(torch.cuda.max_memory_reserved, reset)


class Meter:
    """The `Observer` of a stage: times its phases and takes their peak memory.

    Args:
        launched_at: `time.monotonic()` of the parent when it launched this process, in seconds; the clock
            is the machine's, so the difference is the time that the process took to start.
        report: Called with (phase, done, total) as the stage goes on.
        allocated, reserved: CUDA peaks; without CUDA, reasons.
        resident: Peak resident memory.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        launched_at: float,
        report: Callable[[str, int, int], None],
        *,
        allocated: Peaks,
        reserved: Peaks,
        resident: Peaks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._report = clock, report
        self._launched_at = launched_at
        self._peaks = (resident or ResidentPeak(), allocated, reserved)
        self._phases: dict[str, PhaseCost] = {}
        self._open: str | None = None
        self._mark = launched_at
        self._earlier_seconds, self._num_resumes = 0.0, 0
        self._close("start")

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Everything inside belongs to phase `name`; a phase that comes again adds to its first time."""
        if self._open is not None:
            raise RuntimeError(f"phase {name!r} inside phase {self._open!r}: phases do not nest")
        self._close("other")
        self._open = name
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

    def seconds(self) -> dict[str, float]:
        """Seconds up to now by phase."""
        self._close(self._open or "other")
        return {phase.name: phase.seconds for phase in self._phases.values()}

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
        """`done` of `total` units of the present phase are finished."""
        self._report(self._open or "other", done, total)

    def cost(self, sampler: DeviceSampler) -> Cost:
        """What the stage has cost up to now."""
        self._close("other")
        phases = list(self._phases.values())
        counted = [phase for phase in phases if phase.name != UNBILLED]
        reserved = [
            p.peak_cuda_reserved_bytes for p in counted if isinstance(p.peak_cuda_reserved_bytes, int)
        ]
        resident = [p.peak_resident_bytes for p in counted if isinstance(p.peak_resident_bytes, int)]
        return Cost(
            total_seconds=self._earlier_seconds + self._mark - self._launched_at,
            num_resumes=self._num_resumes,
            train_seconds=sum(phase.seconds for phase in phases if phase.name in TRAIN_PHASES),
            phases=phases,
            peak_memory_bytes=max(reserved or resident, default=None),
            peak_memory_kind="cuda_reserved" if reserved else "resident",
            peak_device_memory_bytes=sampler.peak(),
            sample_seconds=sampler.period_seconds,
        )

    def _close(self, name: str) -> None:
        """Give the time and the peaks since the last mark to phase `name`."""
        now = self._clock()
        resident, allocated, reserved = (peak.read() for peak in self._peaks)
        self._add(
            PhaseCost(
                name=name,
                seconds=now - self._mark,
                peak_resident_bytes=resident,
                peak_cuda_allocated_bytes=allocated,
                peak_cuda_reserved_bytes=reserved,
            )
        )
        for peak in self._peaks:
            peak.reset()
        self._mark = now

    def _add(self, new: PhaseCost) -> None:
        before = self._phases.get(new.name)
        self._phases[new.name] = new if before is None else _sum(before, new)


def _sum(first: PhaseCost, second: PhaseCost) -> PhaseCost:
    """Seconds add up, peaks do not."""
    return PhaseCost(
        name=first.name,
        seconds=first.seconds + second.seconds,
        peak_resident_bytes=_higher(first.peak_resident_bytes, second.peak_resident_bytes),
        peak_cuda_allocated_bytes=_higher(first.peak_cuda_allocated_bytes, second.peak_cuda_allocated_bytes),
        peak_cuda_reserved_bytes=_higher(first.peak_cuda_reserved_bytes, second.peak_cuda_reserved_bytes),
    )


def _higher(first: int | Missing, second: int | Missing) -> int | Missing:
    if isinstance(first, int) and isinstance(second, int):
        return max(first, second)
    return first if isinstance(first, Missing) else second
