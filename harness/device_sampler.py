"""What NVML says of the GPU while a stage runs: memory, other processes and energy, sampled by a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from harness.nvml import Device
from harness.records import Missing

PERIOD_SECONDS = 0.1


class Highest:
    """The highest of several readings since the last reset.

    Args:
        read: Gives the value now, or why it cannot be had; then there is no highest either.
    """

    def __init__(self, read: Callable[[], int | Missing]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._highest: int | Missing | None = None

    def sample(self) -> int | Missing:
        """Read once, and give the highest up to now."""
        now = self._read()
        with self._lock:
            if isinstance(now, Missing) or self._highest is None:
                self._highest = now
            elif not isinstance(self._highest, Missing):
                self._highest = max(self._highest, now)
            return self._highest

    def reset(self) -> None:
        """Start a new measurement."""
        with self._lock:
            self._highest = None

    def read(self) -> int | Missing:
        """The highest, this moment's value included."""
        return self.sample()


class Energy:
    """Joules that the device has used since this began: by its own counter, else its power summed over samples.

    Args:
        device: Read from.
        clock: Seconds, monotonic.
    """

    def __init__(self, device: Device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock = device, clock
        self._lock = threading.Lock()
        self._first = device.energy_joules()
        self._watts = device.power_watts()
        self._at = clock()
        self._joules = 0.0

    @property
    def method(self) -> Literal["counter", "power_samples"] | None:
        """How it is measured; None: it cannot be had."""
        if not isinstance(self._first, Missing):
            return "counter"
        return None if isinstance(self._watts, Missing) else "power_samples"

    def sample(self) -> None:
        """Add what was used since the last sample, by the mean of its power and the present one."""
        if self.method != "power_samples":
            return
        watts = self._device.power_watts()
        with self._lock:
            now = self._clock()
            if isinstance(watts, Missing) or isinstance(self._watts, Missing):
                self._watts = self._watts if isinstance(self._watts, Missing) else watts  # for good
            else:
                self._joules += (self._watts + watts) / 2 * (now - self._at)
                self._watts, self._at = watts, now

    def read(self) -> float | Missing:
        """Joules up to now, or why they cannot be had."""
        if not isinstance(self._first, Missing):
            now = self._device.energy_joules()
            return now if isinstance(now, Missing) else now - self._first
        self.sample()
        return self._watts if isinstance(self._watts, Missing) else self._joules


class DeviceSampler:
    """Reads a device again and again while the context is open.

    Args:
        device: Read from; one that shows no memory is not sampled.
        period_seconds: Time between two samples.
    """

    def __init__(self, device: Device, *, period_seconds: float = PERIOD_SECONDS) -> None:
        self.device, self.period_seconds = device, period_seconds
        self.memory = Highest(device.memory_bytes)
        self.other_processes = Highest(device.num_other_processes)
        self.energy = Energy(device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device-sampler", daemon=True)

    def __enter__(self) -> DeviceSampler:
        if not isinstance(self.memory.sample(), Missing):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def sample(self) -> None:
        """Read everything once."""
        self.memory.sample()
        self.other_processes.sample()
        self.energy.sample()

    def _run(self) -> None:
        while not self._stop.wait(self.period_seconds):
            self.sample()
