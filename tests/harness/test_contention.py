"""Whether a stage had the machine to itself: by what others took of the processors, and by who is on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from harness.contention import Processors, contention, other_load, process_tree
from harness.records import Cost, Missing, PhaseCost
from tests.harness.test_meters import FakeClock, FakeProcessors, meter

NO_GPU = Missing(reason="no GPU")
BURN = "import time\nbegin = time.process_time()\nwhile time.process_time() < begin + {seconds}: pass"


def phase(seconds: float, others: float | Missing | None, gpu: int | Missing = NO_GPU) -> PhaseCost:
    return PhaseCost(
        name="train",
        seconds=seconds,
        peak_resident_bytes=1,
        peak_cuda_allocated_bytes=NO_GPU,
        peak_cuda_reserved_bytes=NO_GPU,
        other_processor_seconds=others,
        num_other_gpu_processes=gpu,
    )


@pytest.mark.parametrize(
    ("others", "processors", "contended"),
    [
        (0.0, 2, False),
        (0.9, 2, False),  # 4.5 % of 2 processors x 10 s
        (1.1, 2, True),  # 5.5 %
        (10.0, 64, False),  # one of 64 processors was busy otherwise
        (40.0, 64, True),
    ],
)
def test_more_than_a_twentieth_of_the_processors_time_is_a_shared_machine(
    others: float, processors: int, contended: bool
) -> None:
    found = contention([phase(10.0, others)], num_processors=processors, on_gpu=False)
    assert found.contended is contended
    assert found.processor_share == pytest.approx(others / (10 * processors))


def test_only_what_was_measured_counts() -> None:
    found = contention([phase(30.0, None), phase(10.0, 1.1)], num_processors=2, on_gpu=False)
    assert found.processor_share == pytest.approx(0.055)


def test_too_short_a_stretch_is_not_judged() -> None:
    found = contention([phase(0.1, 0.02)], num_processors=2, on_gpu=False)
    assert isinstance(found.contended, Missing)
    assert "too coarsely" in found.contended.reason


@pytest.mark.parametrize(
    ("on_gpu", "gpu", "contended"),
    [
        (True, 0, False),
        (True, 1, True),
        (True, Missing(reason="hidden"), Missing(reason="hidden")),
        (False, NO_GPU, False),
    ],
)
def test_who_is_on_the_gpu_matters_where_the_stage_uses_one(
    on_gpu: bool, gpu: int | Missing, contended: bool | Missing
) -> None:
    assert contention([phase(10.0, 0.0, gpu)], num_processors=2, on_gpu=on_gpu).contended == contended


def test_a_busy_processor_is_contention_even_if_nvml_hides_who_is_on_the_gpu() -> None:
    assert (
        contention([phase(10.0, 9.0, Missing(reason="hidden"))], num_processors=2, on_gpu=True).contended
        is True
    )


def cost(share: float, processes: int | Missing = NO_GPU) -> Cost:
    made = meter(FakeClock(100.0)).cost()
    return made.model_copy(
        update={"contended": True, "other_processor_share": share, "num_other_gpu_processes": processes}
    )


def test_beside_other_stages_of_the_run_no_stage_had_the_machine_to_itself() -> None:
    alone, together = (
        contention([phase(10.0, 0.0)], num_processors=64, on_gpu=False, workers=workers) for workers in (1, 2)
    )
    assert (alone.contended, together.contended) == (False, True)
    too_short = contention([phase(0.1, 0.0)], num_processors=2, on_gpu=False, workers=2)
    assert too_short.contended is True


def test_other_load_is_told_in_words() -> None:
    beside = cost(0.01).model_copy(update={"workers": 4})
    assert other_load([beside]) == "4 stages ran at a time by `metering: relaxed`"
    assert other_load([cost(0.31), beside]) == (
        "others took up to 31 % of the processors' time and up to 4 stages ran at a time by `metering: relaxed`"
    )
    assert other_load([cost(0.31)]) == "others took 31 % of the processors' time"
    assert other_load([cost(0.31), cost(0.52)]) == "others took up to 52 % of the processors' time"
    assert other_load([cost(0.01, 1)]) == "others had 1 process on the GPU"
    assert (
        other_load([cost(0.3, 2)])
        == "others took 30 % of the processors' time and had 2 processes on the GPU"
    )


def test_the_load_while_a_stage_loads_does_not_count_when_it_trains() -> None:
    clock, processors = FakeClock(100.0), FakeProcessors()
    made = meter(clock, processors=processors)
    with made.phase("load"):
        clock.now, processors.others = 110.0, 20.0
    with made.phase("train"):
        clock.now, processors.others = 120.0, 20.4
    found = made.cost()
    assert found.contended is False
    assert found.other_processor_share == pytest.approx(0.4 / 20)
    assert sum(each.other_processor_seconds or 0 for each in found.phases) == pytest.approx(20.4)  # type: ignore[misc]


def test_a_child_of_this_process_is_no_other_while_it_runs_and_after_it_ended() -> None:
    made = Processors()

    def of_children() -> float:
        return made._own_seconds() - time.process_time()

    before = of_children()
    program = BURN.format(seconds=0.1) + "\nprint('burnt', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "burnt\n"
        assert of_children() - before >= 0.07  # counted in ticks of 10 ms
        child.communicate("\n")
    assert of_children() - before >= 0.07


def test_the_tree_of_a_process_has_its_grandchildren_and_nobody_else() -> None:
    program = (
        "import subprocess, sys\n"
        "with subprocess.Popen([sys.executable, '-c', 'import os; print(os.getpid(), flush=True); input()']) as child: pass"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert set(process_tree(child.pid)) == {child.pid, grandchild}
        assert {child.pid, grandchild} < set(process_tree(os.getpid()))
        assert os.getppid() not in process_tree(os.getpid())
        child.communicate("\n")


def test_a_process_outside_is_an_other() -> None:
    # Its parent ends at once, so that it is no child of this process.
    program = f"import os\nif os.fork(): os._exit(0)\n{BURN.format(seconds=0.2)}\nprint('burnt', flush=True)"
    made = Processors()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.communicate()[0] == "burnt\n"
    assert made.other_seconds() >= 0.15  # counted in ticks of 10 ms


def test_busy_seconds_are_those_of_the_processors_that_may_be_used() -> None:
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        made = Processors()
        begin, before = time.monotonic(), made._busy_seconds()
        while time.process_time() and time.monotonic() < begin + 0.2:
            pass
        assert made.count == 1
        assert made._busy_seconds() - before <= time.monotonic() - begin + 0.05
    finally:
        os.sched_setaffinity(0, usable)
