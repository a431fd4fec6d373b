"""The GPU's own memory figure, by NVML, sampled beside a stage by a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from harness.records import Missing

PERIOD_SECONDS = 0.1


class DeviceSampler:
    """Highest memory use of one device while the context is open.

    Args:
        read: Gives the bytes in use on the device now, or why they cannot be had.
        period_seconds: Time between two samples.
    """

    def __init__(self, read: Callable[[], int | Missing], *, period_seconds: float = PERIOD_SECONDS) -> None:
        self._read = read
        self.period_seconds = period_seconds
        self._peak: int | Missing = read()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="device-sampler", daemon=True)

    def __enter__(self) -> DeviceSampler:
        if isinstance(self._peak, int):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def peak(self) -> int | Missing:
        """Bytes at the highest sample, other processes on the device included; or the reason for having none."""
        return self._peak

    def _sample(self) -> None:
        while not self._stop.wait(self.period_seconds):
            now = self._read()
            if isinstance(now, Missing):
                self._peak = now
                return
            assert isinstance(self._peak, int)
            self._peak = max(self._peak, now)


def no_device() -> int | Missing:
    """The reading of a stage that uses no GPU."""
    return Missing(reason="the stage ran on the CPU")


def nvml_reader(uuid: str) -> Callable[[], int | Missing]:
    """A reader of the memory in use on the device with this UUID, as torch and NVML both name it."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        reason = f"NVML: {error}"
        return lambda: Missing(reason=reason)

    def read() -> int | Missing:
        try:
            return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        except pynvml.NVMLError as error:
            return Missing(reason=f"NVML: {error}")

    return read
