"""`threads: auto` and `workers: auto`: which numbers stand for them, chosen once by measurement and kept in `concurrency.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import Field

from harness.config import AUTO, Comparison
from harness.identity import canonical_hash
from harness.machine import choose_device, machine
from harness.plan import Plan
from harness.records import write_json
from pipelines.stages import Strict

CONCURRENCY = "concurrency.json"
# What is faster by less is no reason to share the machine with more stages: nor would another measurement confirm it.
WORTH_IT = 1.1
Pair = tuple[int, int]  # threads of a stage, stages at a time


class Tried(Strict):
    """One way to share out the processors, and what it achieved."""

    threads: int
    workers: int
    steps_per_second: float = Field(
        description="Of all processes together; one optimizer step of each kind of training stage counts as one."
    )


class Concurrency(Strict):
    """What stands for `auto`."""

    question: str = Field(
        description="Hash of what the choice is for: machine, model, `training`, `threads`, `workers`."
    )
    threads: int
    workers: int
    tried: list[Tried] = Field(description="In the order of preference where they are about as fast.")
    reason: str | None = Field(None, description="Why nothing was measured.")


Measure = Callable[[Plan, Sequence[Pair]], list[Tried]]


def is_open(comparison: Comparison) -> bool:
    """Whether something is left to a measurement."""
    return AUTO in (comparison.threads, comparison.workers)


def settled(comparison: Comparison, results: Path) -> Comparison:
    """The comparison with numbers for `auto` where they were chosen before, for it or for one beside it; else as it is."""
    choice = _kept(comparison, results) if is_open(comparison) else None
    return comparison if choice is None else _with(comparison, choice)


def settle(comparison: Comparison, plan: Plan, folder: Path, *, measure: Measure) -> Comparison:
    """The comparison with numbers for `auto`, chosen now if they were not before, and kept in `folder`.

    Args:
        comparison: Its `threads` or `workers` is `auto`.
        plan: Of its stages, as far as it is known.
        folder: Its results folder, or a night's.
        measure: Tries pairs out, one after the other; it may leave out what memory does not hold.
    """
    choice = _kept(comparison, folder.parent) or _choose(comparison, plan, measure)
    write_json(folder / CONCURRENCY, choice.model_dump(mode="json"))
    return _with(comparison, choice)


def read_choice(folder: Path) -> Concurrency | None:
    """The choice that a results folder keeps; None where there is none of this form."""
    try:
        return Concurrency.model_validate_json((folder / CONCURRENCY).read_bytes())
    except (OSError, ValueError):
        return None


def not_yet_measured(comparison: Comparison) -> Iterator[str]:
    """A sentence for each number that only a run finds out."""
    if comparison.threads == AUTO:
        yield "ids of all stages: `threads: auto` is measured by the run, and is part of them"
    if comparison.workers == AUTO:
        yield "how many stages run at a time: `workers: auto` is measured by the run"


def candidates(comparison: Comparison, cores: int) -> list[Pair]:
    """What is tried out, that with the fewest stages at a time first.

    With both left open, stages share out all cores: one with all of them, two with half each, and so on.
    """
    threads, workers = comparison.threads, comparison.workers
    found: set[Pair] = set()
    for number in _doublings(cores) if threads == AUTO else [threads if isinstance(threads, int) else cores]:
        room = max(1, cores // number)
        if isinstance(workers, int):
            if workers <= room or number == 1:
                found.add((number, workers))
        else:
            found |= {(number, many) for many in ([room] if threads == AUTO else _doublings(room))}
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def best(tried: Sequence[Tried]) -> Tried:
    """The first that none beats by more than `WORTH_IT`."""
    most = max(one.steps_per_second for one in tried)
    return next(one for one in tried if one.steps_per_second * WORTH_IT >= most)


def usable_cores() -> int:
    """Cores that this process, and so a stage, may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _choose(comparison: Comparison, plan: Plan, measure: Measure) -> Concurrency:
    cores = usable_cores()
    fallback = comparison.threads if isinstance(comparison.threads, int) else cores
    tried: list[Tried] = []
    reason: str | None = "on a GPU one stage runs at a time, and its threads matter little"
    if choose_device(comparison.device) == "cpu":
        try:
            tried, reason = measure(plan, candidates(comparison, cores)), None
        except Exception as error:  # whatever it is: the run is what was asked for
            reason = f"it could not be measured: {error or type(error).__name__}"
    chosen = best(tried) if tried else Tried(threads=fallback, workers=1, steps_per_second=0)
    workers = comparison.workers if isinstance(comparison.workers, int) else chosen.workers
    return Concurrency(
        question=_question(comparison),
        threads=chosen.threads,
        workers=workers,
        tried=tried,
        reason=reason,
    )


def _kept(comparison: Comparison, results: Path) -> Concurrency | None:
    """The choice for this question: its own folder's, else that of a folder beside it, so that equal stages have equal ids."""
    question = _question(comparison)
    folders = [results / comparison.name, *sorted(path.parent for path in results.glob(f"*/{CONCURRENCY}"))]
    choices = (read_choice(folder) for folder in folders)
    return next((choice for choice in choices if choice is not None and choice.question == question), None)


def _question(comparison: Comparison) -> str:
    here = machine()
    return canonical_hash(
        {
            "processor": here.processor,
            "cores": usable_cores(),
            "device": choose_device(comparison.device),
            "threads": comparison.threads,
            "workers": comparison.workers,
            "model": comparison.model.model_dump(mode="json"),
            "training": comparison.training.model_dump(mode="json"),
        }
    )


def _with(comparison: Comparison, choice: Concurrency) -> Comparison:
    return comparison.model_copy(update={"threads": choice.threads, "workers": choice.workers})


def _doublings(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})
