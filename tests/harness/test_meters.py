"""Meters: phases sum to the whole, peaks belong to their phase, what cannot be had says why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.device_sampler import DeviceSampler
from harness.meters import Instruments, Meter
from harness.nvml import Device, NoDevice
from harness.peaks import NoPeak, ResidentPeak
from harness.records import Missing


class FakeClock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakePeak:
    """A peak that the test sets, and that a reset brings to zero."""

    def __init__(self) -> None:
        self.value = 0

    def reset(self) -> None:
        self.value = 0

    def read(self) -> int | Missing:
        return self.value


class FakeProcessors:
    """Two processors, of which others took what the test says."""

    count = 2

    def __init__(self) -> None:
        self.others = 0.0

    def other_seconds(self) -> float:
        return self.others


class FakeDevice:
    """A GPU that shows what the test sets."""

    def __init__(self, **values: Any) -> None:
        self.values = {"memory": 0, "joules": 0.0, "watts": 0.0, "others": 0} | values

    def memory_bytes(self) -> int | Missing:
        return self.values["memory"]

    def energy_joules(self) -> float | Missing:
        return self.values["joules"]

    def power_watts(self) -> float | Missing:
        return self.values["watts"]

    def num_other_processes(self) -> int | Missing:
        return self.values["others"]


def meter(
    clock: FakeClock,
    resident: FakePeak | None = None,
    reserved: FakePeak | None = None,
    processors: FakeProcessors | None = None,
    device: Device | None = None,
) -> Meter:
    nothing = NoPeak("none here")
    instruments = Instruments(
        resident or FakePeak(),
        nothing,
        reserved or nothing,
        DeviceSampler(device or NoDevice("no GPU here")),
        processors or FakeProcessors(),  # type: ignore[arg-type]
        on_gpu=device is not None,
    )
    return Meter(100.0, lambda *_: None, instruments, clock=clock)


def test_phases_sum_to_the_whole() -> None:
    clock = FakeClock(101.5)
    made = meter(clock)
    clock.now = 102.0
    with made.phase("load"):
        clock.now = 104.0
    with made.phase("train"):
        clock.now = 114.0
    clock.now = 115.0
    cost = made.cost()
    assert {phase.name: phase.seconds for phase in cost.phases} == {
        "start": 1.5,
        "other": 1.5,
        "load": 2.0,
        "train": 10.0,
    }
    assert cost.total_seconds == 15.0 == sum(phase.seconds for phase in cost.phases)
    assert cost.train_seconds == 10.0


def test_reference_log_probs_computed_before_training_are_part_of_its_seconds() -> None:
    clock = FakeClock(100.0)
    made = meter(clock)
    with made.phase("reference"):
        clock.now = 103.0
    with made.phase("train"):
        clock.now = 110.0
    assert made.cost().train_seconds == 10.0


def test_a_peak_belongs_to_the_phase_in_which_it_happened() -> None:
    clock, resident = FakeClock(100.0), FakePeak()
    made = meter(clock, resident)
    with made.phase("load"):
        resident.value = 700
    with made.phase("train"):
        resident.value = 900
    with made.phase("load"):
        resident.value = 500
    cost = made.cost()
    peaks = {phase.name: phase.peak_resident_bytes for phase in cost.phases}
    assert peaks["load"] == 700
    assert peaks["train"] == 900
    assert cost.peak_memory_bytes == 900
    assert cost.peak_memory_kind == "resident"


def test_on_cuda_the_peak_is_the_allocators_not_the_process() -> None:
    clock, resident, reserved = FakeClock(100.0), FakePeak(), FakePeak()
    made = meter(clock, resident, reserved)
    with made.phase("train"):
        resident.value, reserved.value = 900, 400
    cost = made.cost()
    assert (cost.peak_memory_bytes, cost.peak_memory_kind) == (400, "cuda_reserved")


def test_what_cannot_be_had_is_missing_with_a_reason_and_never_zero() -> None:
    cost = meter(FakeClock(100.0)).cost()
    assert cost.phases[0].peak_cuda_allocated_bytes == Missing(reason="none here")
    assert cost.peak_device_memory_bytes == Missing(reason="no GPU here")
    assert cost.energy_joules == Missing(reason="no GPU here")
    assert cost.energy_method is None


def test_phases_do_not_nest() -> None:
    made = meter(FakeClock(100.0))
    with (
        pytest.raises(RuntimeError, match="phase 'save' inside phase 'train'"),
        made.phase("train"),
        made.phase("save"),
    ):
        pass


def test_the_resident_peak_sees_an_allocation_and_forgets_it_after_a_reset() -> None:
    peak = ResidentPeak()
    peak.reset()
    before = peak.read()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    during = peak.read()
    del block
    peak.reset()
    after = peak.read()
    if isinstance(before, Missing) or isinstance(during, Missing) or isinstance(after, Missing):
        pytest.skip("this kernel gives no resettable peak")
    assert during - before >= 60 << 20
    assert after < during - (30 << 20)


def test_a_checkpoint_inside_training_is_saving_not_training() -> None:
    clock, resident = FakeClock(100.0), FakePeak()
    made = meter(clock, resident)
    with made.phase("train"):
        clock.now, resident.value = 104.0, 500
        with made.aside("save"):
            clock.now, resident.value = 105.0, 900
        clock.now, resident.value = 107.0, 600
    cost = made.cost()
    assert {phase.name: phase.seconds for phase in cost.phases if phase.seconds} == {
        "train": 6.0,
        "save": 1.0,
    }
    assert {phase.name: phase.peak_resident_bytes for phase in cost.phases} == {
        "start": 0,
        "other": 0,
        "train": 600,
        "save": 900,
    }
    assert cost.train_seconds == 6.0


def test_looks_at_validation_pairs_are_on_no_bill_and_their_memory_is_no_peak() -> None:
    clock, resident = FakeClock(100.0), FakePeak()
    made = meter(clock, resident)
    with made.phase("train"):
        clock.now, resident.value = 104.0, 500
        with made.aside("validate"):
            assert made.seconds()["train"] == 4.0
            clock.now, resident.value = 106.0, 900
            assert made.seconds() == {"start": 0.0, "other": 0.0, "train": 4.0, "validate": 2.0}
        clock.now, resident.value = 107.0, 600
    cost = made.cost()
    assert (cost.train_seconds, cost.total_seconds, cost.billed_seconds) == (5.0, 7.0, 5.0)
    assert cost.peak_memory_bytes == 600


def test_time_up_to_a_checkpoints_manifest_is_saving_too() -> None:
    clock = FakeClock(100.0)
    made = meter(clock)
    with made.phase("train"), made.aside("save"):
        clock.now = 103.0
        kept = {phase["name"]: phase["seconds"] for phase in made.state()["phases"]}
    assert kept["save"] == 3.0
    assert kept["train"] == 0.0


def test_a_resumed_stage_counts_training_once_and_every_start_in_its_total() -> None:
    clock = FakeClock(100.0)
    first = meter(clock)
    with first.phase("load"):
        clock.now = 103.0
    with first.phase("reference"):
        clock.now = 105.0
    with first.phase("train"):
        clock.now = 115.0
        kept = json.loads(json.dumps(first.state()))  # as a checkpoint's manifest keeps it
        clock.now = 119.0  # thrown away by a kill
    clock = FakeClock(100.0)
    second = meter(clock)
    with second.phase("load"):
        clock.now = 104.0
    second.resume(kept)
    with second.phase("reference"):
        clock.now = 106.0
    with second.phase("train"):
        clock.now = 109.0
    cost = second.cost()
    seconds = {phase.name: phase.seconds for phase in cost.phases}
    assert seconds["train"] == 10.0 + 3.0
    assert seconds["repeated"] == 3.0 + 2.0
    assert cost.train_seconds == seconds["train"] + 2.0
    assert cost.total_seconds == 15.0 + 9.0 == sum(seconds.values())
    assert cost.num_resumes == 1


def test_the_first_step_is_warm_up_and_the_loaders_waiting_is_inside_training() -> None:
    clock = FakeClock(100.0)
    made = meter(clock)
    with made.phase("load"):
        clock.now = 101.0
        made.progress(1, 1)  # no step of training
    with made.phase("train"):
        for step in (1, 2, 3):
            with made.waiting():
                clock.now += 0.25
            clock.now += 4.0 if step == 1 else 1.0
            made.progress(step, 3)
        clock.now += 0.5  # what comes after the last step is no warm-up
    cost = made.cost()
    assert cost.train_seconds == 7.25
    assert cost.warm_up_seconds == 4.25
    assert cost.steady_train_seconds == 3.0
    assert cost.waiting_seconds == 0.75
    assert cost.total_seconds == sum(phase.seconds for phase in cost.phases) == 8.25
    assert {phase.name: phase.waiting_seconds for phase in cost.phases if phase.waiting_seconds} == {
        "train": 0.75
    }


def test_a_look_at_validation_pairs_before_the_first_step_is_no_warm_up_and_its_energy_on_no_bill() -> None:
    clock, device = FakeClock(100.0), FakeDevice(joules=0.0)
    made = meter(clock, device=device)
    with made.phase("train"):
        clock.now = 101.0
        with made.aside("validate"):
            clock.now, device.values["joules"] = 106.0, 500.0
        clock.now, device.values["joules"] = 108.0, 700.0
        made.progress(1, 2)
        clock.now, device.values["joules"] = 109.0, 800.0
        made.progress(2, 2)
    cost = made.cost()
    assert (cost.warm_up_seconds, cost.train_seconds, cost.energy_joules) == (3.0, 4.0, 300.0)
    assert made.joules() == 300.0


def test_each_process_of_a_resumed_stage_has_its_own_warm_up() -> None:
    clock = FakeClock(100.0)
    first = meter(clock)
    with first.phase("train"):
        for step in (1, 2):
            with first.waiting():
                clock.now += 0.5
            clock.now += 2.0
            first.progress(step, 4)
        kept = json.loads(json.dumps(first.state()))
    clock = FakeClock(100.0)
    second = meter(clock)
    second.resume(kept)
    with second.phase("train"):
        for step in (3, 4):
            with second.waiting():
                clock.now += 0.5
            clock.now += 3.0
            second.progress(step, 4)
    cost = second.cost()
    assert cost.train_seconds == 5.0 + 7.0
    assert cost.warm_up_seconds == 2.5 + 3.5
    assert cost.waiting_seconds == 2.0


def test_a_stage_that_does_not_train_has_no_warm_up_and_no_waiting() -> None:
    made = meter(FakeClock(100.0))
    with made.phase("evaluate"):
        made.progress(1, 2)
    cost = made.cost()
    assert (cost.warm_up_seconds, cost.waiting_seconds, cost.steady_train_seconds) == (None, None, None)


def test_energy_and_the_devices_memory_belong_to_their_phase() -> None:
    clock, device = FakeClock(100.0), FakeDevice(joules=5_000.0, memory=300)
    made = meter(clock, device=device)
    with made.phase("load"):
        device.values.update(joules=5_100.0, memory=800)
    with made.phase("train"):
        clock.now = 110.0
        device.values.update(joules=7_100.0, memory=600)
    cost = made.cost()
    phases = {phase.name: phase for phase in cost.phases}
    assert phases["start"].energy_joules is None  # nobody measured yet
    assert (phases["load"].energy_joules, phases["train"].energy_joules) == (100.0, 2_000.0)
    assert (phases["load"].peak_device_memory_bytes, phases["train"].peak_device_memory_bytes) == (800, 600)
    assert (cost.energy_joules, cost.energy_method) == (2_100.0, "counter")
    assert cost.peak_device_memory_bytes == 800


def test_another_process_on_the_gpu_while_it_trains_makes_a_stage_contended() -> None:
    clock, device = FakeClock(100.0), FakeDevice()
    made = meter(clock, device=device)
    with made.phase("load"):
        device.values["others"] = 2
    device.values["others"] = 0
    with made.phase("train"):
        clock.now = 110.0
    assert made.cost().contended is False  # they were gone when it trained
    with made.phase("train"):
        device.values["others"] = 1
    cost = made.cost()
    assert (cost.contended, cost.num_other_gpu_processes) == (True, 1)
