"""Peaks of memory that the kernel and torch keep for this process, each since its last reset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.records import Missing

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class Peaks(Protocol):
    """The highest value since the last `reset`."""

    def reset(self) -> None:
        """Start a new measurement."""

    def read(self) -> int | Missing:
        """The highest value, or why it cannot be had."""


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
