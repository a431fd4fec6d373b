"""NVML's figures of the right device, and reasons where there are none; with a faked pynvml, as there is no GPU here."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.device_sampler import DeviceSampler, Energy
from harness.machine import machine
from harness.nvml import NoDevice, find_gpu, first_visible
from harness.records import Missing
from harness.stage import _machine
from tests.harness.test_meters import FakeClock, FakeDevice

UUID, OTHER, SLICE, SECOND_SLICE = (f"{digit}" * 8 for digit in "1234")
ME = os.getpid()


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class FakeNvml:
    """One machine: cards by UUID, slices of a card in MIG mode, and what each shows; None: not supported.

    Two cards: index 0 is `GPU-OTHER`, so that anybody who goes by index reads the wrong one.
    """

    slices: dict[str, list[str]] = field(default_factory=dict)
    energy: int | None = 5_000_000
    pids: dict[str, list[int]] = field(default_factory=dict)
    has_driver: bool = True
    num_open: int = 0
    NVML_DEVICE_MIG_ENABLE: int = 1
    NVMLError: type[Exception] = NVMLError

    def known(self) -> list[str]:
        return [
            f"GPU-{OTHER}",
            f"GPU-{UUID}",
            *(f"MIG-{each}" for all in self.slices.values() for each in all),
        ]

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.has_driver:
            raise NVMLError("Driver Not Loaded")

        self.num_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index > 1:
            raise NVMLError("Invalid Argument")
        return self.known()[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.known():
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802
        if not self.slices:
            raise NVMLError("Not Supported")
        return [int(handle in self.slices), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, place: int) -> str:  # noqa: N802
        if place >= len(self.slices[handle]):
            raise NVMLError("Not Found")
        return f"MIG-{self.slices[handle][place]}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return types.SimpleNamespace(used=1000 + self.known().index(handle), total=80_000)

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return f"name of {handle}"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.1"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if self.energy is None:
            raise NVMLError("Not Supported")
        return self.energy

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return 250_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        return [types.SimpleNamespace(pid=pid) for pid in self.pids.get(handle, [])]


def used_by(handle: str, nvml: FakeNvml) -> int:
    return 1000 + nvml.known().index(handle)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    machine()  # kept from now on, so that no fake gets into it
    made = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, f"GPU-{OTHER}"),
        ("0", f"GPU-{OTHER}"),
        ("1,0", f"GPU-{UUID}"),
        (f"GPU-{UUID}", f"GPU-{UUID}"),
        ("GPU-1111,GPU-2222", f"GPU-{UUID}"),
        (f"MIG-{SLICE}", f"MIG-{SLICE}"),
    ],
)
def test_before_torch_is_asked_the_card_is_the_first_that_is_visible(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str | None, found: str
) -> None:
    nvml.slices = {f"GPU-{UUID}": [SLICE]}
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with first_visible() as handle:
        assert handle == found
    here = machine.__wrapped__()
    assert (here.accelerator, here.accelerator_memory_bytes) == (f"name of {found}", 80_000)


@pytest.mark.parametrize("visible", ["7", "GPU-9"])
def test_a_card_that_is_not_there_is_none(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.__wrapped__().accelerator is None
    assert nvml.num_open == 0


@pytest.mark.parametrize("visible", [None, "0", "1", "1,0", f"GPU-{UUID}", "GPU-1111"])
def test_the_card_is_the_one_that_torch_names_however_it_was_made_visible(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpu(UUID).memory_bytes() == used_by(f"GPU-{UUID}", nvml)


def test_the_record_names_the_card_that_was_used(nvml: FakeNvml) -> None:  # noqa: ARG001
    found = find_gpu(UUID)
    instruments = types.SimpleNamespace(device=DeviceSampler(found))
    used = _machine(instruments)  # type: ignore[arg-type]
    assert (used.accelerator, used.accelerator_memory_bytes) == (f"name of GPU-{UUID}", 80_000)
    assert used.driver == "580.1"
    assert used.processor == machine().processor


@pytest.mark.parametrize(
    ("visible", "torch_names"),
    [
        (f"MIG-{SLICE}", UUID),  # named, and torch gives the card's UUID
        (f"MIG-{SLICE}", SLICE),  # named, and torch gives the slice's
        (None, SLICE),  # not named: torch gives the slice's
    ],
)
def test_of_a_mig_slice_its_own_figures_are_read(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str | None, torch_names: str
) -> None:
    nvml.slices = {f"GPU-{UUID}": [SECOND_SLICE, SLICE]}
    nvml.pids = {f"MIG-{SLICE}": [ME], f"MIG-{SECOND_SLICE}": [1]}
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = find_gpu(torch_names)
    assert found.memory_bytes() == used_by(f"MIG-{SLICE}", nvml)
    assert found.num_other_processes() == 0  # who is on the other slice shares nothing that is measured
    energy = found.energy_joules()
    assert isinstance(energy, Missing)
    assert "a MIG slice" in energy.reason


def test_the_only_slice_of_the_card_that_torch_names_is_the_one(nvml: FakeNvml) -> None:
    nvml.slices = {f"GPU-{UUID}": [SLICE]}
    assert find_gpu(UUID).memory_bytes() == used_by(f"MIG-{SLICE}", nvml)


def test_of_several_slices_none_is_guessed(nvml: FakeNvml) -> None:
    nvml.slices = {f"GPU-{UUID}": [SLICE, SECOND_SLICE]}
    found = find_gpu(UUID).memory_bytes()
    assert isinstance(found, Missing)
    assert "2 MIG slices" in found.reason


def test_a_card_beside_one_in_mig_mode_is_read_as_a_card(nvml: FakeNvml) -> None:
    nvml.slices = {f"GPU-{OTHER}": [SLICE]}
    assert find_gpu(UUID).memory_bytes() == used_by(f"GPU-{UUID}", nvml)


def test_what_nvml_does_not_have_is_missing_with_its_words(nvml: FakeNvml) -> None:
    assert find_gpu("9" * 8).memory_bytes() == Missing(reason="NVML: Not Found")
    nvml.energy = None
    assert find_gpu(UUID).energy_joules() == Missing(reason="NVML: Not Supported")
    nvml.has_driver = False
    assert find_gpu(UUID).memory_bytes() == Missing(reason="NVML: Driver Not Loaded")


def test_only_processes_outside_our_tree_are_others(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    child, stranger = 2**22 + 7, 2**22 + 8
    monkeypatch.setattr("harness.nvml.process_tree", lambda pid: iter([pid, child]))
    nvml.pids = {f"GPU-{UUID}": [ME, child], f"GPU-{OTHER}": [stranger]}
    gpu = find_gpu(UUID)
    assert gpu.num_other_processes() == 0
    nvml.pids[f"GPU-{UUID}"].append(stranger)
    assert gpu.num_other_processes() == 1


@pytest.mark.parametrize("pids", [[], [17, 18]])
def test_where_nvml_does_not_list_this_process_nothing_is_certain(nvml: FakeNvml, pids: list[int]) -> None:
    nvml.pids = {f"GPU-{UUID}": pids}
    found = find_gpu(UUID).num_other_processes()
    assert isinstance(found, Missing)
    assert "does not list this process" in found.reason


def test_energy_is_the_counters_growth(nvml: FakeNvml) -> None:
    energy = Energy(find_gpu(UUID))
    assert nvml.energy is not None
    nvml.energy += 1_500  # millijoules
    assert energy.read() == pytest.approx(1.5)
    assert energy.method == "counter"


def test_a_device_without_a_counter_has_its_power_summed() -> None:
    clock = FakeClock(0.0)
    device = FakeDevice(joules=Missing(reason="NVML: Not Supported"), watts=100.0)
    energy = Energy(device, clock)
    clock.now = 2.0
    energy.sample()
    device.values["watts"], clock.now = 300.0, 3.0
    assert energy.read() == pytest.approx(200.0 + 200.0)  # 2 s at 100 W, then 1 s at 200 W in the mean
    assert energy.method == "power_samples"


def test_energy_that_fails_in_the_middle_is_missing_not_a_part_of_it() -> None:
    clock = FakeClock(0.0)
    device = FakeDevice(joules=Missing(reason="none"), watts=100.0)
    energy = Energy(device, clock)
    clock.now, device.values["watts"] = 2.0, Missing(reason="NVML: GPU is lost")
    energy.sample()
    clock.now, device.values["watts"] = 4.0, 100.0
    assert energy.read() == Missing(reason="NVML: GPU is lost")


def test_the_sampler_keeps_the_highest_value_until_a_reset() -> None:
    device = FakeDevice(memory=5)
    with DeviceSampler(device, period_seconds=0.001) as sampler:
        device.values["memory"] = 9
        while sampler.memory._highest != 9:  # the thread sees it
            pass
        device.values["memory"] = 7
        assert sampler.memory.read() == 9
        sampler.memory.reset()
        assert sampler.memory.read() == 7


def test_a_reading_that_fails_once_leaves_no_highest() -> None:
    device = FakeDevice(memory=5)
    sampler = DeviceSampler(device)
    sampler.memory.sample()
    device.values["memory"] = Missing(reason="NVML: GPU is lost")
    sampler.memory.sample()
    device.values["memory"] = 5
    assert sampler.memory.read() == Missing(reason="NVML: GPU is lost")


def test_a_stage_without_a_gpu_starts_no_thread() -> None:
    with DeviceSampler(NoDevice("on the CPU")) as sampler:
        assert not sampler._thread.is_alive()
        assert sampler.energy.read() == Missing(reason="on the CPU")


def test_the_real_pynvml_has_every_name_that_is_used() -> None:
    import pynvml

    used = [name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert "nvmlDeviceGetHandleByUUID" in used
    assert [name for name in used if not hasattr(pynvml, name)] == []
