"""Forecast against measured memory and time, a fresh process each: `python -m benchmarks.forecast --page docs/forecast.md`.

Each setting is forecast from its shape (`pipelines.forecast`), its speed is calibrated on four steps at full length; then the
stage itself runs, with random weights, on pairs of unequal lengths. Memory is the peak of resident memory (`VmHWM`) above what
the process held when its libraries were loaded, with glibc's allocator told to give memory back at once
(`MALLOC_MMAP_THRESHOLD_`). Time, from another process without that, is the training loop, and the reference pass where it comes before it. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.forecast.ask import ask
from harness.forecast.duration import calibrated, lengths_of, load_of, seconds_of
from harness.machine import git_commit, machine
from harness.meters import ResidentPeak
from pipelines.forecast.request import (
    CalibrationRequest,
    ForecastRequest,
    Lengths,
    StageRequest,
    Work,
)
from pipelines.forecast.shapes import shapes_folder
from pipelines.stages import (
    DataOutcome,
    LoraSettings,
    ModelSettings,
    Phase,
    ReferenceSettings,
    SplitCount,
    Stage,
    StageInputs,
    TrainSettings,
)

MIB = 2**20
THREADS = 1
NO_WORK = Work(matmul_flops=0, attention_flops=0, reference_matmul_flops=0, reference_attention_flops=0)
BASE, DATA, REFERENCE = f"pretrain-{1:012x}", f"data-{1:012x}", f"reference-{1:012x}"
SMALL = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
# Returned at once: every block of 64 KiB and more is a mapping of its own.
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
MARKS = ("<!-- measured: python -m benchmarks.forecast -->", "<!-- end of measured -->")


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    size: str
    kind: str
    micro_batch: int
    tuning: str = "full"
    reference: str | None = None
    implementation: str | None = None
    checkpointing: bool = False

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return 256 if self.size == "small" else 128

    @property
    def num_steps(self) -> int:
        """Optimizer steps, of two micro-batches each."""
        return 8 if self.size == "small" else 4

    def settings(self, folder: Path) -> TrainSettings:
        """The stage's, its base model in `folder`."""
        return TrainSettings.model_validate(
            {
                "kind": self.kind,
                "model": ModelSettings(name=str(folder / BASE / "model")),
                "tuning": self.tuning,
                "lora": LoraSettings(),
                "dtype": "float32",
                "effective_batch": 2 * self.micro_batch,
                "micro_batch": self.micro_batch,
                "max_length": self.length,
                "gradient_checkpointing": self.checkpointing,
                "reference": self.reference,
                "implementation": self.implementation,
                "nll": "completion",
                "mean_over": None if self.kind == "sft" else "step",
                "arguments": {"num_train_epochs": 1},
            }
        )

    def __str__(self) -> str:
        how = self.reference or self.implementation or ""
        kept = ", checkpointing" if self.checkpointing else ""
        return f"{self.size} | {self.kind} {how} | {self.tuning}{kept} | {self.micro_batch}"


SETTINGS = (
    Setting("small", "sft", 2),
    Setting("small", "sft", 4),
    Setting("small", "sft", 2, "lora"),
    Setting("small", "orpo", 2, implementation="trl"),
    Setting("small", "orpo", 4, implementation="trl"),
    Setting("small", "orpo", 2, "lora", implementation="trl"),
    Setting("small", "orpo", 2, implementation="fused"),
    Setting("small", "orpo", 4, "lora", implementation="fused"),
    Setting("small", "dpo", 2, reference="copy"),
    Setting("small", "dpo", 4, reference="precomputed"),
    Setting("small", "dpo", 2, "lora", reference="adapter"),
    Setting("135M", "sft", 2),
    Setting("135M", "orpo", 1, implementation="trl"),
    Setting("135M", "orpo", 1, implementation="fused"),
    Setting("135M", "dpo", 1, reference="copy"),
    Setting("135M", "dpo", 1, reference="precomputed"),
    Setting("135M", "dpo", 2, "lora", reference="adapter"),
)


class Watch:
    """An observer that keeps seconds and peak resident memory of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time and peak of what is inside."""
        peak = ResidentPeak()
        peak.reset()
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
        found = peak.read()
        assert isinstance(found, int), found
        self.peaks[name] = max(self.peaks.get(name, 0), found)

    @contextmanager
    def aside(self, name: Phase) -> Iterator[None]:
        """Nothing is apart here."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Not shown."""

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
    rows = []
    for setting in SETTINGS:
        if options.only is None or options.only in str(setting):
            rows.append(row_of(setting))
            print(rows[-1], flush=True)
    table = "\n".join([*head(), *rows])
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        before, after = text.partition(MARKS[0])[0], text.partition(MARKS[1])[2]
        options.page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


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


def row_of(setting: Setting) -> str:
    """Forecast, calibrate, run, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lengths = make_inputs(folder, setting)
        settings = setting.settings(folder)
        forecast_bytes, forecast_seconds = forecast(settings, lengths)
        (folder / "setting.json").write_text(settings.model_dump_json())
        # Twice: an allocator that gives everything back takes half as long again.
        returning, plain = (_run(folder, more) for more in (RETURNING, {}))
    if isinstance(returning, str) or isinstance(plain, str):
        return f"| {setting} | {forecast_bytes / MIB:.0f} | failed: {returning if isinstance(returning, str) else plain} | | | | |"
    memory, seconds = returning["bytes"], plain["seconds"]
    return (
        f"| {setting} | {forecast_bytes / MIB:.0f} | {memory / MIB:.0f} | {memory / forecast_bytes:.2f} "
        f"| {forecast_seconds:.1f} | {seconds:.1f} | {seconds / forecast_seconds:.2f} |"
    )


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


def forecast(settings: TrainSettings, lengths: Lengths) -> tuple[int, float]:
    """Peak bytes and seconds."""
    sequences = lengths_of(settings, lengths)
    longest, num_pairs = max(sequences), len(sequences)
    length = round(
        load_of(settings, NO_WORK, length=longest, sequences=sequences, num_pairs=num_pairs).mean_length
    )
    found = ask(
        ForecastRequest(
            device="cpu",
            stages=[StageRequest(settings=settings, length=longest)],
            calibrations=[
                CalibrationRequest(settings=settings, length=length, threads=THREADS, device="cpu")
            ],
        )
    )
    (answer,), (times,) = found.stages, found.calibrations
    load = load_of(settings, answer.work, length=longest, sequences=sequences, num_pairs=num_pairs)
    share, work = length / answer.length, answer.work
    in_step = settings.reference != "precomputed"
    flops = (work.matmul_flops + in_step * work.reference_matmul_flops) * share + (
        work.attention_flops + in_step * work.reference_attention_flops
    ) * share**2
    peak = max(sum(parts.values()) for parts in answer.phases.values())
    return peak, seconds_of(load, calibrated(times, flops)).mid


def make_inputs(folder: Path, setting: Setting) -> Lengths:
    """A base model with random weights and prepared pairs of unequal lengths, the longest of the window's."""
    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipelines.forecast import fakes

    shape = SMALL
    if setting.size != "small":
        shape = json.loads((shapes_folder() / "smollm2-135m.json").read_text())["shape"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    model.save_pretrained(folder / BASE / "model")
    chance = random.Random(0)
    rows = []
    for number in range(setting.num_steps * 2 * setting.micro_batch):
        whole = setting.length if number % 4 == 0 else chance.randint(setting.length // 4, setting.length)
        prompt = whole // 3
        replies = [whole - prompt, chance.randint((whole - prompt) // 2, whole - prompt)]
        chance.shuffle(replies)
        ids = {
            f"{side}_ids": [fakes.TOKEN] * count
            for side, count in zip(("chosen", "rejected"), replies, strict=True)
        }
        rows.append({"uid": str(number), "source_row": number, "prompt_ids": [fakes.TOKEN] * prompt, **ids})
    fakes.tokenizer().save_pretrained(folder / DATA / "tokenizer")
    Dataset.from_list(rows).save_to_disk(folder / DATA / "splits" / "train")
    count = SplitCount(num_pairs=len(rows), num_prompt_tokens=0, num_chosen_tokens=0, num_rejected_tokens=0)
    outcome = DataOutcome(
        form="prompt",
        num_rows=len(rows),
        dropped=[],
        splits={"train": count},
        content_hash="",
        chat_template_source="default",
        adds_bos=False,
        end_of_turn_ids=[fakes.EOS],
        pad_token_id=fakes.PAD,
    )
    (folder / DATA / "data.json").write_text(outcome.model_dump_json())
    return Lengths(
        source="prepared data",
        num_train_pairs=len(rows),
        num_test_pairs=None,
        chosen=[len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in rows],
        rejected=[len(row["prompt_ids"]) + len(row["rejected_ids"]) for row in rows],
    )


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
    seconds = watch.seconds["train"] + watch.seconds.get("reference", 0.0)
    return {"bytes": max(watch.peaks.values()) - baseline, "seconds": seconds}


def _stage(name: str, settings: Any, inputs: StageInputs) -> Stage:
    return Stage(id=name, settings=settings, inputs=inputs, seed=1, threads=THREADS, device="cpu")


if __name__ == "__main__":
    main()
