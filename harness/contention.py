"""Whether a stage had the machine to itself: processor time of other processes, and other processes on its GPU."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import psutil

from harness.records import Cost, Missing, PhaseCost, highest, total

# Of all processors' time. Daemons of an idle machine take about 1 %.
OTHERS_SHARE = 0.05
# The kernel counts a processor's time in ticks of 10 ms: of a shorter stretch the share would be mostly rounding.
SHORTEST_SECONDS = 0.5


class Processors:
    """Time of the processors that this process may use, and who took it.

    A load average would lag by a minute and count this run's own threads; this counts exactly what others took, in
    other containers and virtual machines (`steal`) too. Of this run are this process, its children, and the processes that started
    it. Another stage that runs at the same time is not: it spoils the meters as anybody else would.
    """

    def __init__(self) -> None:
        self._usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.count = len(self._usable) or psutil.cpu_count() or 1
        parent = parent_process()
        self._starters = {os.getppid(), *([parent.pid] if parent is not None and parent.pid else [])}
        self._others_at_start = self._others()

    def other_seconds(self) -> float:
        """Processor seconds that others have taken since this was made."""
        return self._others() - self._others_at_start

    def _others(self) -> float:
        return self._busy_seconds() - self._own_seconds()

    def _busy_seconds(self) -> float:
        """All but idle time and interrupts, which belong to no process."""
        times = psutil.cpu_times(percpu=True)
        if self._usable and self._usable[-1] < len(times):
            times = [times[place] for place in self._usable]
        names = ("user", "nice", "system", "steal")  # a guest's time is in `user`
        return math.fsum(getattr(each, name, 0.0) for each in times for name in names)

    def _own_seconds(self) -> float:
        own = sum(_with_ended_children(pid) for pid in process_tree(os.getpid()))
        for pid in self._starters:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                own += times.user + times.system
        return own


def process_tree(pid: int) -> Iterator[int]:
    """`pid` and its descendants, as the kernel lists them; psutil would look at every process of the machine."""
    yield pid
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it ended meanwhile, or this kernel keeps no such lists
        with contextlib.suppress(psutil.Error):
            yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
        return
    for child in " ".join(lists).split():
        yield from process_tree(int(child))


def _with_ended_children(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it ended meanwhile; its parent's times have it now, or will
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@dataclass(frozen=True)
class Contention:
    """What others took of the machine while a stage trained or, where it trains nothing, while it ran.

    Attributes:
        contended: Whether it was so much that the stage's costs are unreliable.
        processor_share: Share of the processors' time, 0 to 1.
        num_gpu_processes: The most other processes on the GPU at a time.
    """

    contended: bool | Missing
    processor_share: float | Missing
    num_gpu_processes: int | Missing | None


def contention(
    phases: Sequence[PhaseCost], *, num_processors: int, on_gpu: bool, workers: int = 1
) -> Contention:
    """Judge the phases that matter.

    Args:
        phases: Those whose seconds are compared between arms.
        num_processors: Over which the other processes' time is spread.
        on_gpu: Whether the stage used one; else its absence leaves nothing open.
        workers: Stages that the run lets run at a time. With several none is said to have had the machine to itself,
            however little of it the others took.
    """
    share = _processor_share(phases, num_processors)
    others = highest(phase.num_other_gpu_processes for phase in phases)
    contended: bool | Missing
    busy = isinstance(share, float) and share > OTHERS_SHARE
    if workers > 1 or busy or (isinstance(others, int) and others > 0):
        contended = True
    elif isinstance(share, Missing):
        contended = share
    else:
        contended = others if on_gpu and isinstance(others, Missing) else False
    return Contention(contended, share, others)


def other_load(costs: Sequence[Cost]) -> str:
    """What others took of the machine in contended stages, in words; the most of any of them."""
    shares = [cost.other_processor_share for cost in costs]
    share = max((each for each in shares if isinstance(each, float)), default=0.0)
    numbers = [cost.num_other_gpu_processes for cost in costs]
    number = max((each for each in numbers if isinstance(each, int)), default=0)
    workers = max((cost.workers for cost in costs), default=1)
    up_to = "up to " if len(costs) > 1 else ""
    found = (
        [f"others took {up_to}{100 * share:.0f} % of the processors' time"] if share > OTHERS_SHARE else []
    )
    if number:
        subject = "" if found else "others "
        found.append(f"{subject}had {up_to}{number} {'process' if number == 1 else 'processes'} on the GPU")
    if workers > 1:
        found.append(f"{up_to}{workers} stages ran at a time by `metering: relaxed`")
    return " and ".join(found)


def _processor_share(phases: Sequence[PhaseCost], num_processors: int) -> float | Missing:
    measured = [phase for phase in phases if phase.other_processor_seconds is not None]
    others = total(phase.other_processor_seconds for phase in measured)
    seconds = math.fsum(phase.seconds for phase in measured)
    if isinstance(others, Missing):
        return others
    if others is None or seconds < SHORTEST_SECONDS:
        return Missing(reason=f"processor time is counted too coarsely for less than {SHORTEST_SECONDS:g} s")
    return others / (seconds * num_processors)
