"""What the meters cost: `python -m benchmarks.metering --steps 400`; prints lines for each trainer.

On the toy world's model, whose steps are the shortest that this project knows, so that the share is the largest. In one training,
steps with and without meter alternate in the order A B B A, on one thread: with it, the data loader is timed and the end of the step told.
A step's processor time, which other processes do not lengthen, is taken from the end of the step before, so the loader is in it. The ratio
is that of the medians; its 95 % interval is from 2,000 bootstrap samples of neighbours, measured in turn.

What a metered step calls is also timed by itself, as the ratio cannot show so little, and so is what is read at a phase's end (peaks,
who took the processors, on CUDA energy), some fourteen times a stage, and a sample of the GPU, ten a second. The recorder is no meter: `benchmarks.recorder` has its cost.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from benchmarks.recorder import TRAINERS, make_toy_data, ratio_of, toy_trainer
from harness.instruments import instruments_of
from harness.meters import Instruments, Meter
from harness.nvml import NoDevice
from pipelines.stages import ConvertSettings, ModelSettings, Stage
from pipelines.training.watching import LoaderWait

WARMUP = 20
CALLS = 100


def main(arguments: list[str]) -> None:
    """Measure each trainer and print its ratio, then what a border between phases takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=400, help="steps with meters, and as many without; even")
    parser.add_argument("--only", choices=tuple(TRAINERS), help="one trainer instead of all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = make_toy_data(root)
        for kind in [options.only] if options.only else TRAINERS:
            folder = root / kind
            folder.mkdir()
            steps = 2 * (WARMUP + options.steps)
            trainer, _ = toy_trainer(data, folder, kind, max_steps=steps, device=options.device)
            instruments = _instruments(options.device)
            alternation = Alternation(trainer, Meter(time.monotonic(), lambda *_: None, instruments))
            trainer.add_callback(alternation)
            # The trainer's own lines do not belong into the table.
            with alternation.meter.phase("train"), contextlib.redirect_stdout(sys.stderr):
                trainer.train()
            metered, bare = (np.array(alternation.seconds[on][WARMUP:]) for on in (True, False))
            ratio, low, high = ratio_of(metered, bare)
            sys.stdout.write(
                f"{kind}: {1000 * np.median(bare):.1f} ms a step, metered {ratio:.4f} times ({low:.4f} to {high:.4f})\n"
            )
        meter = alternation.meter
        sys.stdout.write(f"what a step calls: {1000 * _seconds(lambda: _calls_of_a_step(meter)):.3f} ms\n")
        sys.stdout.write(f"a border between phases: {1000 * _seconds(meter.seconds):.1f} ms\n")
        if not isinstance(instruments.device.device, NoDevice):
            sys.stdout.write(f"a sample of the device: {1000 * _seconds(instruments.device.sample):.2f} ms\n")


class Alternation(TrainerCallback):
    """Takes the processor time of every optimizer step, from the end of the one before; two of four are metered."""

    def __init__(self, trainer: Trainer, meter: Meter) -> None:
        self.meter = meter
        self._wait = LoaderWait(trainer, meter)
        self._place, self._since = 0, 0.0
        self.seconds: dict[bool, list[float]] = {True: [], False: []}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first step is metered."""
        self._wait.__enter__()
        self._since = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock, switch, start it again."""
        is_metered = self._is_metered()
        if is_metered:
            self.meter.progress(state.global_step, state.max_steps)
        self.seconds[is_metered].append(time.process_time() - self._since)
        self._place += 1
        if self._is_metered() and not is_metered:
            self._wait.__enter__()
        if is_metered and not self._is_metered():
            self._wait.__exit__(None, None, None)
        self._since = time.process_time()

    def _is_metered(self) -> bool:
        return self._place % 4 in (0, 3)


def _instruments(device: Literal["cpu", "cuda"]) -> Instruments:
    """Those of any stage on this device."""
    settings = ConvertSettings(
        kind="convert", model=ModelSettings(name="toy", gguf_file="x"), dtype="float32"
    )
    return instruments_of(
        Stage(id="convert-000000000000", settings=settings, seed=0, threads=1, device=device)
    )


def _calls_of_a_step(meter: Meter) -> None:
    with meter.waiting():
        pass
    meter.progress(1, 1)


def _seconds(call: Callable[[], Any]) -> float:
    """Mean processor seconds of a call."""
    begin = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begin) / CALLS


if __name__ == "__main__":
    main(sys.argv[1:])
