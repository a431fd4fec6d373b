"""What the recorder costs: `python -m benchmarks.recorder --steps 300`; prints a line for each trainer.

On the toy world's model, whose steps are the shortest that this project knows, so that the share is the largest. Steps with
and without the recorder alternate, in the order A B B A, on the same batches and one thread. The ratio is that of the
medians; its interval is from 2,000 bootstrap samples of the quadruples. That is what a step takes longer, all told, and as uncertain as steps
differ. What is spent inside the recorder's own code is timed as well: the sum over the steps that have it, over the rest of the same
steps, which a few steps tell to a tenth of a percent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, Trainer, TrainerCallback

from pipelines.data.prepare import prepare
from pipelines.data.prepared import read_outcome, read_split, read_tokenizer
from pipelines.stages import (
    DataSettings,
    LoraSettings,
    ModelSettings,
    Phase,
    PrepareSettings,
    Stage,
    TrainSettings,
)
from pipelines.toy.pretrain import base_config
from pipelines.training.arguments import shared_arguments
from pipelines.training.dpo import dpo_trainer
from pipelines.training.orpo import orpo_trainer
from pipelines.training.parts import Parts
from pipelines.training.recording import Prepared, Recorder
from pipelines.training.sft import sft_trainer

BATCH = 16
WARMUP = 10
TRAINERS: dict[str, Callable[[Parts, dict[str, Any]], Trainer]] = {
    "sft": sft_trainer,
    "dpo": dpo_trainer,
    "orpo": orpo_trainer,
}


class Silent:
    """An observer that is told of phases and keeps nothing."""

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Enter a phase."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Hear how far it is."""


def main(arguments: list[str]) -> None:
    """Measure each trainer and print its ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--steps", type=int, default=300, help="steps with the recorder, and as many without; even"
    )
    steps = parser.parse_args(arguments).steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_toy_data(root)
        for kind in TRAINERS:
            with_recorder, without, inside = _alternate(root, kind, steps)
            ratio, low, high = ratio_of(with_recorder, without)
            share, least, most = _share(inside, with_recorder - inside)
            sys.stdout.write(
                f"{kind}: {1000 * np.median(without):.1f} ms a step, with the recorder {ratio:.4f} times "
                f"({low:.4f} to {high:.4f}); inside the recorder {share:.2%} of the rest of the step ({least:.2%} to {most:.2%})\n"
            )


def _alternate(root: Path, kind: Any, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Processor seconds of every step with the recorder and without, and of the former inside the recorder."""
    folder = root / kind
    folder.mkdir()
    data = root / "data-000000000000"
    trainer, pairs = toy_trainer(data, folder, kind, max_steps=4 * WARMUP + 2 * steps)
    recorder = Recorder(
        trainer,
        Prepared(pairs),
        folder,
        end_of_turn_ids=read_outcome(data).end_of_turn_ids,
        paired=kind != "sft",
        whole_chosen=False,
    )
    clock = Alternation(recorder)
    trainer.add_callback(clock)
    trainer.train()
    with_recorder, without = (np.array(clock.seconds[on][2 * WARMUP :]) for on in (True, False))
    return with_recorder, without, np.array(clock.inside[2 * WARMUP :])


class Alternation(TrainerCallback):
    """Takes the processor time of every optimizer step, which other processes do not lengthen; entering and leaving the recorder, which happens once a stage, is not timed."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._place, self._started, self._inside = recorder, 0, 0.0, 0.0
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.inside: list[float] = []
        self._note = recorder._note
        recorder._note = self._timed  # type: ignore[method-assign]

    def _timed(self, *given: Any) -> None:
        started = time.process_time()
        self._note(*given)
        self._inside += time.process_time() - started

    def _is_on(self) -> bool:
        return self._place % 4 in (0, 3)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        if self._is_on():
            self._recorder.__enter__()
        self._inside = 0.0
        self._started = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock."""
        self.seconds[self._is_on()].append(time.process_time() - self._started)
        if self._is_on():
            self._recorder.__exit__(None, None, None)
            self.inside.append(self._inside)
        self._place += 1


def make_toy_data(root: Path) -> Path:
    """The toy world's prepared pairs, in a data stage's folder below `root`."""
    data = root / "data-000000000000"
    data.mkdir()
    settings = PrepareSettings(
        kind="data", model=ModelSettings(name="toy"), data=DataSettings(path="toy"), max_length=128
    )
    prepare(Stage(id=data.name, settings=settings, seed=0, threads=1, device="cpu"), data, Silent())
    return data


def toy_trainer(
    data: Path, folder: Path, kind: Any, *, max_steps: int, device: Literal["cpu", "cuda"] = "cpu"
) -> tuple[Trainer, Dataset]:
    """A trainer of the toy world's model with random weights, and its pairs."""
    tokenizer, pairs = read_tokenizer(data), read_split(data, "train")
    torch.manual_seed(0)
    policy, reference = (LlamaForCausalLM(base_config(tokenizer)).to(device) for _ in range(2))
    settings = TrainSettings(
        kind=kind,
        model=ModelSettings(name="toy"),
        tuning="full",
        lora=LoraSettings(),
        dtype="float32",
        effective_batch=BATCH,
        micro_batch=BATCH,
        max_length=128,
        gradient_checkpointing=False,
        reference="copy" if kind == "dpo" else None,
        implementation="trl" if kind == "orpo" else None,
        nll="completion",
        arguments={"learning_rate": 1e-4, "max_steps": max_steps},
    )
    stage = Stage(id=f"{kind}-000000000000", settings=settings, seed=0, threads=1, device=device)
    parts = Parts(
        settings=settings,
        policy=policy,
        reference_model=reference if kind == "dpo" else None,
        tokenizer=tokenizer,
        pairs=pairs,
    )
    return TRAINERS[kind](parts, shared_arguments(stage, folder)), pairs


def ratio_of(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Ratio of the medians with its 95 % interval; neighbours, measured in turn, are drawn together."""
    random = np.random.default_rng(0)
    first_q2, second_q2 = first.reshape(-1, 2), second.reshape(-1, 2)
    drawn = random.integers(0, len(first_q2), (2000, len(first_q2)))
    ratios = [np.median(first_q2[rows]) / np.median(second_q2[rows]) for rows in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(first) / np.median(second)), float(low), float(high)


def _share(inside: np.ndarray, rest: np.ndarray) -> tuple[float, float, float]:
    """Sum of the first over that of the second with its 95 % interval over steps."""
    drawn = np.random.default_rng(0).integers(0, len(inside), (2000, len(inside)))
    shares = inside[drawn].sum(1) / rest[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(inside.sum() / rest.sum()), float(low), float(high)


if __name__ == "__main__":
    main(sys.argv[1:])
