"""What a whole comparison takes, against the same work by hand: `python -m benchmarks.head_to_head --rounds 2`.

(a) Two arms on three seeds with both controls, trained, evaluated and judged by one `prefduel run` into an empty folder.
(b) By hand: a plain TRL script for each training (3 SFT, 3 DPO, 3 ORPO), `lm_eval` for each evaluation (10 models), each a
process of its own, one after the other. Same base model, pairs, steps and task, one thread for both.

`--workers N` compares otherwise: (a) with N stages at a time (`metering: relaxed`) against (b) the same `prefduel run` with one.

A round is one of each; a and b alternate A B, B A, ... Prints each round's ratio of wall-clock times and of processor times
(which other programs on the machine do not stretch), and where the time of the last (a) went. Linux only. The toy's trainings take about a second: start-up and sharing are what is measured, and the longer
the trainings, the nearer the ratio comes to what sharing alone saves.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from harness.events import read_events
from pipelines.data.splitting import split_of
from pipelines.stages import DataSettings, PretrainSettings, Stage
from pipelines.toy.tickets import make_pairs

REPOSITORY = Path(__file__).resolve().parents[1]
TASK = REPOSITORY / "configs/tasks/toy_tickets.yaml"
SEEDS = 3
PR_SET_CHILD_SUBREAPER = 36  # orphans become this process' children, so that their times are known
RATES = {"sft": 1e-3, "orpo": 1e-3, "dpo": 5e-4}
TEST_SHARE = 0.2
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONPATH": str(REPOSITORY),
}


def main(arguments: list[str]) -> None:
    """Measure the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of one (a) and one (b)")
    parser.add_argument("--pairs", type=int, default=300, help="pairs, a fifth of them held out")
    parser.add_argument(
        "--documents", type=int, default=2000, help="documents that the base is pre-trained on"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="(a) with so many stages at a time; (b): with one, not by hand"
    )
    given = parser.parse_args(arguments)
    sides: dict[str, Callable[[Path, Path], None]] = {"a": with_prefduel, "b": by_hand}
    if given.workers > 1:
        sides = {"a": partial(with_prefduel, workers=given.workers), "b": with_prefduel}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_inputs(root, num_pairs=given.pairs, documents=given.documents)
        rounds = []
        for number in range(given.rounds):
            spent = {}
            for side in "ab" if number % 2 == 0 else "ba":
                folder = root / f"{side}{number}"
                folder.mkdir()
                spent[side] = timed(sides[side], root, folder)
                say(
                    f"round {number + 1}, {side}: {spent[side].wall:.1f} s, processor {spent[side].processor:.1f} s"
                )
            rounds.append(spent)
        for kind in ("wall", "processor"):
            ratios = [getattr(one["a"], kind) / getattr(one["b"], kind) for one in rounds]
            middle = math.exp(statistics.fmean(map(math.log, ratios)))
            say(f"a/b, {kind}: {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds)")
        total = spent["a"].wall
        say(f"where the {total:.1f} s of the last (a) went:")
        for what, seconds in profile(root / f"a{given.rounds - 1}/results/duel", total).items():
            say(f"  {what}: {seconds:.1f} s ({seconds / total:.0%})")


def make_inputs(root: Path, *, num_pairs: int, documents: int) -> None:
    """What both sides start from: base model, pairs, config; and for (b) the pairs that (a) trains on."""
    settings = PretrainSettings(kind="pretrain", documents=documents)
    stage = Stage(id="pretrain-000000000000", settings=settings, seed=0, threads=1, device="cpu")
    made = root / stage.id
    made.mkdir()
    (made / "stage.json").write_text(stage.model_dump_json(by_alias=True))
    run([sys.executable, "-m", "harness.stage", str(made / "stage.json")], root)
    (made / "model").rename(root / "base")
    rows = make_pairs(num_pairs, seed=1)
    write_rows(root / "pairs.jsonl", rows)
    data = DataSettings(path="pairs.jsonl", test_share=TEST_SHARE, validation_share=0)
    trained_on = [
        row for row in rows if split_of([{"role": "user", "content": row["prompt"]}], data) == "train"
    ]
    write_rows(root / "train.jsonl", trained_on)
    (root / "duel.yaml").write_text(yaml.safe_dump(config(root)))


def config(root: Path) -> dict[str, Any]:
    """The comparison that (a) runs."""

    def stage(trainer: str) -> dict[str, Any]:
        return {"trainer": trainer, "arguments": {"learning_rate": RATES[trainer], "num_train_epochs": 1}}

    return {
        "schema": 1,
        "name": "duel",
        "model": {"name": str(root / "base")},
        "data": {
            "path": str(root / "pairs.jsonl"),
            "test_share": TEST_SHARE,
            "validation_share": 0,
        },
        "training": {"effective_batch": 16, "micro_batch": 16, "max_length": 128},
        "arms": {"orpo": [stage("orpo")], "sft-dpo": [stage("sft"), stage("dpo")]},
        "seeds": SEEDS,
        "threads": 1,
        "device": "cpu",
        "evaluations": {"preference": None, "benchmarks": {"tasks": [str(TASK)]}},
        "decision": {"metric": "benchmark_toy_tickets"},
    }


def with_prefduel(root: Path, folder: Path, *, workers: int = 1) -> None:
    """The whole comparison by one command."""
    changes = ["--set", f"workers={workers}", "--set", "metering=relaxed"]
    run([sys.executable, "-m", "harness", "run", str(root / "duel.yaml"), "--quiet", *changes], folder)


def by_hand(root: Path, folder: Path) -> None:
    """One (b): a process for each training and each evaluation."""
    evaluate(root / "base", folder)
    for seed in range(SEEDS):
        train("orpo", root / "base", root, folder / f"orpo-{seed}", seed)
        train("sft", root / "base", root, folder / f"sft-{seed}", seed)
        train("dpo", folder / f"sft-{seed}", root, folder / f"dpo-{seed}", seed)
        for kind in ("orpo", "sft", "dpo"):
            evaluate(folder / f"{kind}-{seed}", folder)


def train(kind: str, model: Path, root: Path, output: Path, seed: int) -> None:
    """One script for one training."""
    script = [sys.executable, str(REPOSITORY / "benchmarks/plain_trl.py"), kind]
    run(
        [*script, "--model", str(model), "--pairs", str(root / "train.jsonl"), "--output", str(output),
         "--seed", str(seed), "--learning-rate", str(RATES[kind])],
        output.parent,
    )  # fmt: skip


def evaluate(model: Path, folder: Path) -> None:
    """One `lm_eval` for one model."""
    run(
        [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
         "--tasks", str(TASK), "--device", "cpu", "--batch_size", "16", "--output_path", str(folder / "scores")],
        folder,
    )  # fmt: skip


def run(command: list[str], folder: Path) -> None:
    """Run a command in `folder`; its output is shown only where it fails."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and by the processors in all processes that were started."""

    wall: float
    processor: float


def timed(work: Callable[[Path, Path], None], root: Path, folder: Path) -> Spent:
    """What a side takes. Processes that it leaves behind (a fork server ends a moment later) count too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = os.times(), time.monotonic()
    work(root, folder)
    wall = time.monotonic() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(wall, processor)


def profile(folder: Path, total: float) -> dict[str, float]:
    """Seconds of one (a): the phases of its stages summed, and what lies around and between them."""
    spent: dict[str, float] = {}
    for path in folder.glob("*/record.json"):
        for phase in json.loads(path.read_text())["cost"]["phases"]:
            spent[phase["name"]] = spent.get(phase["name"], 0.0) + phase["seconds"]
    stages = math.fsum(event.seconds or 0.0 for event in read_events(folder))
    named = {f"stages: {name}": seconds for name, seconds in spent.items()}
    named["stages: end of the process, record, name"] = stages - math.fsum(spent.values())
    named["command, plan, imports of the fork server, summary, report"] = total - stages
    return named


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def say(text: str) -> None:
    """A line at once: rounds take minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
