"""Peaks of torch's CUDA allocator, by a fake of it: each phase has its own, and so has each group of evaluations in a process."""

from __future__ import annotations

import time

import pytest

from harness.contention import Processors
from harness.device_sampler import DeviceSampler
from harness.meters import Instruments, Meter
from harness.nvml import NoDevice
from harness.peaks import ResidentPeak, cuda_peaks
from harness.stage import give_back_memory


class FakeAllocator:
    """torch's CUDA allocator: what is allocated, what it has reserved for that, and the peak of each since the last reset."""

    def __init__(self) -> None:
        self.allocated = self.reserved = 0
        self.peaks = (0, 0)

    def hold(self, allocated: int) -> None:
        self.allocated, self.reserved = allocated, max(self.reserved, allocated)
        self.peaks = max(self.peaks[0], self.allocated), max(self.peaks[1], self.reserved)

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def reset_peak_memory_stats(self) -> None:
        self.peaks = self.allocated, self.reserved

    def max_memory_allocated(self) -> int:
        return self.peaks[0]

    def max_memory_reserved(self) -> int:
        return self.peaks[1]


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> FakeAllocator:
    fake = FakeAllocator()
    for name in ("empty_cache", "reset_peak_memory_stats", "max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(f"torch.cuda.{name}", getattr(fake, name))
    return fake


def on_cuda() -> Meter:
    allocated, reserved = cuda_peaks()
    sampler = DeviceSampler(NoDevice("no GPU here"))
    instruments = Instruments(ResidentPeak(), allocated, reserved, sampler, Processors(), on_gpu=True)
    return Meter(time.monotonic(), lambda *_: None, instruments)


def test_each_phase_on_cuda_has_the_allocators_own_peaks(allocator: FakeAllocator) -> None:
    made = on_cuda()
    with made.phase("load"):
        allocator.hold(300)
    with made.phase("train"):
        allocator.hold(900)
        allocator.hold(200)
    with made.phase("save"):
        pass
    phases = {phase.name: phase for phase in made.cost().phases}
    assert [phases[name].peak_cuda_allocated_bytes for name in ("load", "train", "save")] == [300, 900, 200]
    assert [phases[name].peak_cuda_reserved_bytes for name in ("load", "train", "save")] == [300, 900, 900]
    assert made.cost().peak_memory_bytes == 900


def test_what_a_group_held_on_cuda_is_not_the_peak_of_the_next_in_its_process(
    allocator: FakeAllocator,
) -> None:
    first = on_cuda()
    with first.phase("load"):
        allocator.hold(300)  # the model, which stays
    with first.phase("evaluate"):
        allocator.hold(900)
        allocator.hold(300)
    assert first.cost().peak_memory_bytes == 900
    give_back_memory("cuda")
    second = on_cuda()
    with second.phase("evaluate"):
        allocator.hold(400)
    assert second.cost().peak_memory_bytes == 400


def test_on_a_cpu_no_driver_is_asked_to_give_back(allocator: FakeAllocator) -> None:
    allocator.hold(900)
    allocator.hold(0)
    give_back_memory("cpu")
    assert allocator.reserved == 900
