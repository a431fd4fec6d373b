"""Forecast against measured memory and time, a fresh process each: `python -m benchmarks.forecast --page docs/forecast.md`.

Each setting is forecast from its shape (`pipelines.forecast`), its speed is calibrated on a few steps (`--calibrate`); then the stage
itself runs, with random weights, on pairs of unequal lengths. Memory is the peak of resident memory (`VmHWM`) above what
the process held when its libraries were loaded, with glibc's allocator told to give memory back at once
(`MALLOC_MMAP_THRESHOLD_`). Time, from another process without that, is the training loop, and the reference pass where it comes before it. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.forecast_settings import BASE, DATA, REFERENCE, SETTINGS, Setting, make_inputs
from harness.forecast.ask import ask_fresh_process
from harness.forecast.bill import overhead
from harness.forecast.duration import load_of, seconds_of
from harness.forecast.schema import Range
from harness.forecast.speeds import Job, calibrate_job
from harness.machine import git_commit, machine
from harness.meters import ResidentPeak
from pipelines.forecast.request import ForecastRequest, Lengths, StageRequest
from pipelines.stages import (
    Phase,
    ReferenceSettings,
    Stage,
    StageInputs,
    TrainSettings,
)

MIB = 2**20
THREADS = 1
# Returned at once: every block of 64 KiB and more is a mapping of its own.
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
MARKS = ("<!-- measured: python -m benchmarks.forecast -->", "<!-- end of measured -->")


class Watch:
    """An observer that keeps seconds and peak resident memory of each phase."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time and peak of what is inside."""
        peak = ResidentPeak()
        peak.reset()
        begin = time.perf_counter()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - begin
        found = peak.read()
        assert isinstance(found, int), found
        self.peaks[name] = max(self.peaks.get(name, 0), found)

    @contextmanager
    def aside(self, name: Phase) -> Iterator[None]:
        """Nothing is apart here."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Not shown."""

    def seconds(self) -> dict[str, float]:
        """By phase."""
        return dict(self.spent)

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
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(Path(options.child))))
        return
    settings = [one for one in SETTINGS if options.only is None or options.only in str(one)]
    rows = []
    for setting in settings:
        rows.append(row_of(setting))
        print(rows[-1], flush=True)
    table = "\n".join([*head(), *map(str, rows), "", *counted(rows)])
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


def head() -> list[str]:
    """What the table says of itself, and its first lines."""
    here = machine()
    load = os.getloadavg()[2]
    return [
        f"At {git_commit()}, on {here.processor}, one thread of {here.num_cores} cores (load of the last 15 minutes: {load:.1f}).",
        "",
        "| model | stage | tuning | micro-batch | memory forecast, MiB | measured | measured / forecast "
        "| seconds forecast | measured | measured / forecast |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]


def row_of(setting: Setting) -> Row:
    """Forecast, calibrate, run, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lengths = make_inputs(folder, setting)
        settings = setting.settings(folder)
        forecast_bytes, forecast_seconds = forecast(settings, lengths)
        (folder / "setting.json").write_text(settings.model_dump_json())
        # Twice: an allocator that gives everything back takes half as long again.
        plain, returning = (_run(folder, more) for more in ({}, RETURNING))
    row = Row(setting, forecast_bytes, forecast_seconds)
    for found in (plain, returning):
        if isinstance(found, str):
            return replace(row, failure=found)
    assert isinstance(plain, dict)
    assert isinstance(returning, dict)
    return replace(row, measured_bytes=returning["bytes"], measured_seconds=plain["seconds"])


def forecast(settings: TrainSettings, lengths: Lengths) -> tuple[int, Range]:
    """Peak bytes and calibrated seconds."""
    sequences = lengths.padded(settings)
    longest, num_pairs = max(sequences), len(sequences)
    request = ForecastRequest(device="cpu", stages=[StageRequest(settings=settings, length=longest)])
    (answer,) = ask_fresh_process(request).stages
    load = load_of(settings, answer.work, length=longest, sequences=sequences, num_pairs=num_pairs)
    job = Job(settings, answer, load, "", lengths.completion_share)
    speed = calibrate_job(job, "cpu", THREADS, ask_fresh_process)
    tensors = max(sum(parts.values()) for parts in answer.phases.values())
    return tensors + overhead(tensors, "cpu"), seconds_of(load, speed)


def _run(folder: Path, more: dict[str, str]) -> dict[str, float] | str:
    """What the stage took in a fresh process, or why it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.forecast", "--child", str(folder)],
        env={**os.environ, **more, "OMP_NUM_THREADS": str(THREADS)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, float]:
    """Run the stage of `folder/setting.json` in this process, and the reference stage before it where it has one."""
    import torch

    # All libraries are loaded before the baseline is taken.
    from pipelines.training import fused_orpo, orpo, reference, sft, train  # noqa: F401

    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    settings = TrainSettings.model_validate_json((folder / "setting.json").read_text())
    base_peak = ResidentPeak()
    base_peak.reset()
    baseline = base_peak.read()
    assert isinstance(baseline, int), baseline
    watch = Watch()
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
    train.train(_stage(own.name, settings, inputs), own, watch)
    seconds = watch.spent["train"] + watch.spent.get("reference", 0.0)
    return {"bytes": max(watch.peaks.values()) - baseline, "seconds": seconds}


def _stage(name: str, settings: Any, inputs: StageInputs) -> Stage:
    return Stage(id=name, settings=settings, inputs=inputs, seed=1, threads=THREADS, device="cpu")


if __name__ == "__main__":
    main()
