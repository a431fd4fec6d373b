"""NVML's view of the one GPU that a stage uses, found by its UUID: CUDA and NVML number devices differently."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from harness.contention import process_tree
from harness.records import Missing

Value = TypeVar("Value")
CARD, SLICE = "GPU-", "MIG-"
MILLI = 1e-3


class Device(Protocol):
    """What can be read of a device; each figure or why it cannot be had."""

    def memory_bytes(self) -> int | Missing:
        """Memory in use, of all processes."""

    def energy_joules(self) -> float | Missing:
        """A running total that began some time ago."""

    def power_watts(self) -> float | Missing:
        """Present draw."""

    def num_other_processes(self) -> int | Missing:
        """Processes with a compute context on the device that are not of this process' tree."""


class NoDevice:
    """A device that is not there, or that NVML does not show."""

    def __init__(self, reason: str) -> None:
        self._missing = Missing(reason=reason)

    def memory_bytes(self) -> Missing:
        """The reason."""
        return self._missing

    energy_joules = power_watts = num_other_processes = memory_bytes


class Gpu:
    """A GPU, or one MIG slice of it.

    Args:
        handle: NVML's.
        is_slice: Whether it is a MIG slice.
    """

    def __init__(self, handle: Any, *, is_slice: bool = False) -> None:
        self._handle, self._is_slice = handle, is_slice

    def memory_bytes(self) -> int | Missing:
        """Memory in use, of all processes."""
        import pynvml

        return _ask(lambda: int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used))

    def energy_joules(self) -> float | Missing:
        """Since the driver was loaded; GPUs before Volta have no such counter."""
        import pynvml

        return self._of_card(lambda: MILLI * pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def power_watts(self) -> float | Missing:
        """Present draw of the board."""
        import pynvml

        return self._of_card(lambda: MILLI * pynvml.nvmlDeviceGetPowerUsage(self._handle))

    def num_other_processes(self) -> int | Missing:
        """Processes with a compute context that are not of this process' tree; a desktop's graphics do not count.

        In a container NVML may hide processes, or number them otherwise. Then this process is not among those that it
        lists, and nothing is certain.
        """
        import pynvml

        found = _ask(
            lambda: {int(each.pid) for each in pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)}
        )
        if isinstance(found, Missing):
            return found
        if os.getpid() not in found:
            return Missing(reason="NVML does not list this process among those on the device")
        return len(found.difference(process_tree(os.getpid())))

    def describe(self) -> tuple[str, int, str] | None:
        """Its name, its memory in bytes and the driver's version."""
        import pynvml

        found = _ask(
            lambda: (
                str(pynvml.nvmlDeviceGetName(self._handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).total),
                str(pynvml.nvmlSystemGetDriverVersion()),
            )
        )
        return None if isinstance(found, Missing) else found

    def _of_card(self, query: Callable[[], float]) -> float | Missing:
        if self._is_slice:
            return Missing(reason="NVML measures a whole card, and this is a MIG slice that shares one")
        return _ask(query)


def find_gpu(uuid: str) -> Device:
    """The GPU, or MIG slice, that this process computes on.

    Args:
        uuid: As torch names its current device, without `GPU-` or `MIG-`.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        return _gpu(uuid)
    except pynvml.NVMLError as error:
        return NoDevice(f"NVML: {error}")


@contextlib.contextmanager
def first_visible() -> Iterator[Any]:
    """NVML's handle of the device that a stage will use, before torch can be asked: the first of CUDA_VISIBLE_DEVICES.

    An index means the same to both where CUDA_DEVICE_ORDER is PCI_BUS_ID or the cards are alike.

    Raises:
        pynvml.NVMLError: no driver, or no such device.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        visible = _visible()
        if visible.startswith(SLICE):
            yield pynvml.nvmlDeviceGetHandleByUUID(visible)
        elif visible.startswith(CARD):
            yield _card(visible)
        else:
            yield pynvml.nvmlDeviceGetHandleByIndex(int(visible) if visible.isdecimal() else 0)
    finally:
        pynvml.nvmlShutdown()


def _visible() -> str:
    """The first entry of CUDA_VISIBLE_DEVICES: an index, a card's UUID or a slice's; empty: all are visible."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()


def _card(beginning: str) -> Any:
    """The card whose UUID begins so, as CUDA lets one write it."""
    import pynvml

    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        if str(pynvml.nvmlDeviceGetUUID(handle)).startswith(beginning):
            return handle
    return pynvml.nvmlDeviceGetHandleByUUID(beginning)


def _gpu(uuid: str) -> Device:
    """See `find_gpu`. CUDA shows a process one slice at most, and names it by its own UUID or by its card's."""
    import pynvml

    visible = _visible()
    if visible.startswith(SLICE):
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(visible), is_slice=True)
    try:
        card = pynvml.nvmlDeviceGetHandleByUUID(CARD + uuid)
    except pynvml.NVMLError:
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(SLICE + uuid), is_slice=True)
    if _ask(lambda: pynvml.nvmlDeviceGetMigMode(card)[0]) != pynvml.NVML_DEVICE_MIG_ENABLE:
        return Gpu(card)
    slices = _slices(card)
    if len(slices) == 1:
        return Gpu(slices[0], is_slice=True)
    return NoDevice(
        f"the card has {len(slices)} MIG slices and CUDA_VISIBLE_DEVICES does not say which one is used"
    )


def _slices(card: Any) -> list[Any]:
    import pynvml

    found = (
        _ask(lambda place=place: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, place))  # type: ignore[misc]
        for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card))
    )
    return [each for each in found if not isinstance(each, Missing)]


def _ask(query: Callable[[], Value]) -> Value | Missing:
    import pynvml

    try:
        return query()
    except pynvml.NVMLError as error:
        return Missing(reason=f"NVML: {error}")
