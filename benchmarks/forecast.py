"""Forecast against measured memory and time, a fresh process each: `python -m benchmarks.forecast --page docs/forecast.md`.

Each setting is forecast from its shape (`pipelines.forecast`), its speed is calibrated on a few steps (`--calibrate`); then the stage
itself runs, with random weights, on pairs of unequal lengths. Memory is the peak of resident memory (`VmHWM`) above what
the process held when its libraries were loaded, with glibc's allocator told to give memory back at once (`mallopt`). Time, from another process without that, is the training loop, and the reference pass where it comes before it. Everything runs on one thread;
`--clock processor` counts the seconds in which it had a processor, in calibration and run alike, for a machine that others use as well.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from benchmarks.forecast_settings import BASE, DATA, REFERENCE, SETTINGS, Setting, make_inputs
from harness.forecast.bill import overhead
from harness.forecast.duration import load_of, seconds_of
from harness.forecast.schema import Range
from harness.forecast.speeds import Job, calibrate_job
from harness.machine import git_commit, machine
from harness.peaks import ResidentPeak
from pipelines.forecast.request import ForecastAnswer, ForecastRequest, Lengths, StageRequest
from pipelines.stages import Phase, ReferenceSettings, Stage, StageInputs, TrainSettings

MIB = 2**20
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
THREADS = 1
# glibc's mallopt: every block of 64 KiB and more is a mapping of its own (-3), what is free on top is returned at 64 KiB
# (-1) and never asked for in advance (-2).
GIVES_BACK = {-3: 65536, -1: 65536, -2: 0}
Made = TypeVar("Made")
MARKS = ("<!-- measured: python -m benchmarks.forecast -->", "<!-- end of measured -->")


class Watch:
    """An observer that keeps seconds and peak resident memory of each phase."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.spent: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time and peak of what is inside."""
        peak = ResidentPeak()
        peak.reset()
        begin = self._clock()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + self._clock() - begin
        found = peak.read()
        assert isinstance(found, int), found
        self.peaks[name] = max(self.peaks.get(name, 0), found)

    @contextmanager
    def aside(self, name: Phase) -> Iterator[None]:
        """Nothing is apart here."""
        yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Not told apart here."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Not shown."""

    def seconds(self) -> dict[str, float]:
        """By phase."""
        return dict(self.spent)

    def joules(self) -> float | None:
        """Not measured here."""
        return None

    def state(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Nothing was kept."""


def main() -> None:
    """Measure every setting, print the table, put it into a page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--only", help="settings whose row contains this text, such as `small`")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="which seconds count")
    options = parser.parse_args()
    # All libraries are loaded before anything is forked: a baseline has them.
    from harness import preload  # noqa: F401
    from pipelines.forecast import answer  # noqa: F401

    settings = [one for one in SETTINGS if options.only is None or options.only in str(one)]
    rows = []
    for setting in settings:
        rows.append(row_of(setting, options.clock))
        print(rows[-1], flush=True)
    table = "\n".join([*head(options.clock), *map(str, rows), "", *counted(rows)])
    print(table.rpartition("\n\n")[2])
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        before, after = text.partition(MARKS[0])[0], text.partition(MARKS[1])[2]
        options.page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


@dataclass(frozen=True)
class Row:
    """One setting, forecast and measured; `failure` says why it was not measured."""

    setting: Setting
    forecast_bytes: int
    forecast_seconds: Range
    measured_bytes: float | None = None
    measured_seconds: float | None = None
    failure: str = ""

    @property
    def memory_ratio(self) -> float | None:
        """Measured over forecast."""
        return None if self.measured_bytes is None else self.measured_bytes / self.forecast_bytes

    @property
    def seconds_ratio(self) -> float | None:
        """Measured over forecast."""
        return None if self.measured_seconds is None else self.measured_seconds / self.forecast_seconds.mid

    def __str__(self) -> str:
        start = f"| {self.setting} | {self.forecast_bytes / MIB:.0f}"
        if self.memory_ratio is None or self.seconds_ratio is None:
            return f"{start} | failed: {self.failure} | | {self.forecast_seconds.mid:.1f} | | |"
        assert self.measured_bytes is not None
        return (
            f"{start} | {self.measured_bytes / MIB:.0f} | {self.memory_ratio:.2f} "
            f"| {self.forecast_seconds.mid:.1f} | {self.measured_seconds:.1f} | {self.seconds_ratio:.2f} |"
        )


def counted(rows: list[Row]) -> Iterator[str]:
    """How many rows lie where they should."""
    for what, low, high, ratios in (
        ("Memory", 0.9, 1.1, [row.memory_ratio for row in rows]),
        ("Time", 0.75, 1.33, [row.seconds_ratio for row in rows]),
    ):
        inside = sum(ratio is not None and low <= ratio <= high for ratio in ratios)
        yield f"{what}: {inside} of {len(rows)} between {low:g} and {high:g} times the forecast."


def head(clock: str) -> list[str]:
    """What the table says of itself, and its first lines."""
    here = machine()
    load = os.getloadavg()[2]
    return [
        f"At {git_commit()}, on {here.processor}, one thread of {here.num_cores} cores, {clock} seconds (load of the last 15 minutes: {load:.1f}).",
        "",
        "| model | stage | tuning | micro-batch | memory forecast, MiB | measured | measured / forecast "
        "| seconds forecast | measured | measured / forecast |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]


def row_of(setting: Setting, clock: str) -> Row:
    """Forecast, calibrate, run, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lengths = in_child(make_inputs, folder, setting)
        settings = setting.settings(folder)
        row = Row(setting, *forecast(settings, lengths, clock))
        try:
            # Twice: an allocator that gives everything back takes half as long again.
            plain = in_child(measure, folder, settings, clock)
            returning = in_child(measure, folder, settings, clock, allocator=GIVES_BACK)
        except Exception as error:  # a failure is a row of the table
            return replace(row, failure=f"{type(error).__name__}: {error}")
    return replace(row, measured_bytes=returning.num_bytes, measured_seconds=plain.seconds)


def forecast(settings: TrainSettings, lengths: Lengths, clock: str) -> tuple[int, Range]:
    """Peak bytes and calibrated seconds."""
    sequences = lengths.padded(settings)
    longest, num_pairs = max(sequences), len(sequences)
    (answer,) = in_child(
        answer_to,
        ForecastRequest(device="cpu", stages=[StageRequest(settings=settings, length=longest)]),
        clock,
    ).stages
    load = load_of(settings, answer.work, length=longest, sequences=sequences, num_pairs=num_pairs)
    job = Job(settings, answer, load, "", lengths.completion_share)
    speed = calibrate_job(job, "cpu", THREADS, lambda request: in_child(answer_to, request, clock))
    tensors = max(sum(parts.values()) for parts in answer.phases.values())
    return tensors + overhead(tensors, "cpu"), seconds_of(load, speed)


def in_child(function: Callable[..., Made], *arguments: Any, **named: Any) -> Made:
    """What `function` returns in a fork of this process, which has the libraries loaded and has run no operation."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments, **named).result()


def answer_to(request: ForecastRequest, clock: str) -> ForecastAnswer:
    """The answer of the forecast's process, its steps timed by this clock."""
    from pipelines.forecast import answer

    timed = partial(answer.calibrate, seconds=CLOCKS[clock])
    with mock.patch.object(answer, "calibrate", timed), redirect_stdout(sys.stderr):
        return answer.answer(request)


@dataclass(frozen=True)
class Measured:
    """What a stage took."""

    num_bytes: int
    seconds: float


def measure(
    folder: Path, settings: TrainSettings, clock: str, allocator: dict[int, int] | None = None
) -> Measured:
    """Run a stage in this process, and the reference stage before it where it has one."""
    import torch

    from pipelines.training import reference, train

    for parameter, value in (allocator or {}).items():
        ctypes.CDLL(None).mallopt(parameter, value)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    base_peak = ResidentPeak()
    base_peak.reset()
    baseline = base_peak.read()
    assert isinstance(baseline, int), baseline
    watch = Watch(CLOCKS[clock])
    inputs = StageInputs(base=BASE, data=DATA)
    if settings.reference == "precomputed":
        shared = settings.model_dump(
            include={"model", "tuning", "lora", "dtype", "micro_batch", "max_length"}
        )
        stage = _stage(REFERENCE, ReferenceSettings(kind="reference", arguments={}, **shared), inputs)
        shutil.rmtree(folder / REFERENCE, ignore_errors=True)
        (folder / REFERENCE).mkdir()
        reference.compute_reference(stage, folder / REFERENCE, watch)
        inputs = inputs.model_copy(update={"reference": REFERENCE})
    own = folder / f"{settings.kind}-{1:012x}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    with redirect_stdout(sys.stderr):  # the trainer's own lines
        train.train(_stage(own.name, settings, inputs), own, watch)
    seconds = watch.spent["train"] + watch.spent.get("reference", 0.0)
    return Measured(max(watch.peaks.values()) - baseline, seconds)


def _stage(name: str, settings: Any, inputs: StageInputs) -> Stage:
    return Stage(id=name, settings=settings, inputs=inputs, seed=1, threads=THREADS, device="cpu")


if __name__ == "__main__":
    main()
