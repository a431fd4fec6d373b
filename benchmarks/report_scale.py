"""How long a report takes, and in how much memory, by number of trials.

    python benchmarks/report_scale.py 1000 10000

makes up results of so many trials through the project's own models (nothing is trained), then writes their report in a
process of its own, and prints seconds, peak resident memory and the size of the pages.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import Comparison
from harness.integrity import hashes_of_files
from harness.plan import COMPARISON
from harness.planning import make_plan
from harness.records import (
    ITEMS,
    LOSSES,
    RECORD,
    REPLIES,
    Cost,
    Machine,
    Missing,
    PhaseCost,
    Record,
    write_json,
)
from pipelines.outcomes import EvaluateOutcome, PretrainOutcome, TrainOutcome
from pipelines.stages import EvaluateSettings, Stage, TrainSettings

ITEMS_OF_AN_EVALUATION, STEPS = 200, 50
NAME = "made-up"
STRENGTHS = (0.05, 0.1, 0.2, 0.5, 1.0)
MODELS_A_SEED = 2 * len(STRENGTHS) + 1  # two arms at each strength, and SFT alone
NO_GPU = Missing(reason="the stage ran on the CPU")


def comparison(seeds: int) -> Comparison:
    """A sweep of both arms over five strengths, with two evaluations."""
    arms: dict[str, Any] = {}
    for strength in STRENGTHS:
        suffix = "" if strength == 0.1 else f"-{strength:g}"
        beta = {"arguments": {"beta": strength}}
        arms[f"orpo{suffix}"] = [{"trainer": "orpo", **beta}]
        arms[f"sft-dpo{suffix}"] = [{"trainer": "sft"}, {"trainer": "dpo", **beta}]
    content = {
        "schema": 1,
        "name": NAME,
        "model": {"name": "toy"},
        "data": {"path": "toy", "num_pairs": 500},
        "arms": arms,
        "seeds": seeds,
        "device": "cpu",
        "threads": 1,
        "evaluations": {"preference": {}, "generation": {"judges": ["gold"]}},
        "decision": {"metric": "gold_score"},
    }
    return Comparison.model_validate(content)


def generate(parent: Path, trials: int) -> Path:
    """Write a results folder of at least `trials` trials below `parent`."""
    plan = make_plan(comparison(-(-trials // MODELS_A_SEED)))
    folder = parent / NAME
    folder.mkdir(parents=True)
    write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))
    names = {stage_id: trial.name for trial in plan.trials for stage_id in trial.evaluations}
    for place, stage in enumerate(plan.stages):
        (folder / stage.id).mkdir()
        _write(folder / stage.id, stage, names.get(stage.id, ""), np.random.default_rng(place))
    print(f"{len(plan.trials):,} trials, {len(plan.stages):,} stages, {_gibibytes(folder):.2f} GiB")
    return folder


def _write(folder: Path, stage: Stage, model: str, random: np.random.Generator) -> None:
    settings, outcome = stage.settings, None
    if isinstance(settings, TrainSettings):
        losses = 2 * np.exp(-np.arange(STEPS) / 20) + random.normal(0, 0.05, STEPS)
        rows = [
            {"step": step, "loss": float(loss), "learning_rate": 1e-3 * (1 - step / STEPS)}
            for step, loss in enumerate(losses, start=1)
        ]
        _write_rows(folder / LOSSES, rows)
        outcome = TrainOutcome(
            num_steps=STEPS, num_pairs_seen=800, num_policy_tokens=100_000, num_reference_tokens=0,
            num_parameters=250_000, num_trainable_parameters=250_000, first_loss=2.0, final_loss=0.2,
            effective_arguments=settings.arguments, weights_hash="cd",
        )  # fmt: skip
    elif isinstance(settings, EvaluateSettings):
        outcome = _evaluate(folder, settings, model, random)
    elif stage.kind == "pretrain":
        outcome = PretrainOutcome(
            num_parameters=250_000, num_steps=9, num_tokens=9, final_loss=1.0, weights_hash="ab"
        )
    seconds = float(random.uniform(5, 9))
    phase = PhaseCost(
        name="train", seconds=seconds, peak_resident_bytes=2**29, peak_cuda_allocated_bytes=NO_GPU,
        peak_cuda_reserved_bytes=NO_GPU,
    )  # fmt: skip
    record = Record(
        stage=stage,
        status="done" if outcome else "failed",
        outcome=outcome,
        cost=Cost(
            total_seconds=seconds, train_seconds=seconds, phases=[phase], peak_memory_bytes=2**29,
            peak_memory_kind="resident", peak_device_memory_bytes=NO_GPU, sample_seconds=0.1,
        ),
        machine=Machine(
            processor="CPU", num_cores=2, memory_bytes=2**33, accelerator=None, accelerator_memory_bytes=None, driver=None
        ),
        versions={"python": "3.11"},
        git_commit="0123456789ab",
        files=hashes_of_files(folder, outcome.kind) if outcome else {},
        started_at="2026-11-24T01:00:00+00:00",
    )  # fmt: skip
    content = record.model_dump(mode="json", by_alias=True)
    (folder / RECORD).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _evaluate(
    folder: Path, settings: EvaluateSettings, model: str, random: np.random.Generator
) -> EvaluateOutcome:
    group = settings.evaluation.group
    scores = np.clip(0.6 + 0.02 * len(model) % 0.1 + random.normal(0, 0.2, ITEMS_OF_AN_EVALUATION), 0, 1)
    names = {
        "preference": ("preference_accuracy", "preference_margin", "chosen_nll"),
        "generation": ("gold_score", "reply_length_tokens", "stopped_share"),
    }[group]
    measured = {
        "preference": {
            "chosen_logprob_sum": -30.0, "rejected_logprob_sum": -40.0, "num_chosen_tokens": 30, "num_rejected_tokens": 35,
        },
        "generation": {},
    }[group]  # fmt: skip
    rows = [
        {"item": f"item-{place:08d}", **measured, **dict.fromkeys(names, float(score))}
        for place, score in enumerate(scores)
    ]
    _write_rows(folder / ITEMS, rows)
    if group == "generation":
        reply = {"prompt": "A question. " * 9, "reply": "A reply. " * 9, "temperature": 0, "num_tokens": 30}
        more = {"stopped": True, "gold": {"team": 1.0, "code": 0.5}}
        _write_rows(folder / REPLIES, [{"item": row["item"], **reply, **more} for row in rows])
    mean = sum(row[names[0]] for row in rows) / len(rows)
    return EvaluateOutcome(
        group=group, means=dict.fromkeys(names, mean), num_items=dict.fromkeys(names, len(rows))
    )


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _gibibytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30


def measure(folder: Path, reports: Path) -> None:
    """Write the report in a fresh process, and print what it took."""
    command = [sys.executable, "-m", "harness", "report", str(folder), "--reports", str(reports)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    peak = used.ru_maxrss / 2**20  # of the largest child so far: name sizes in ascending order
    sizes = ", ".join(
        f"{path.suffix} {path.stat().st_size / 2**20:.2f} MiB" for path in sorted(reports.glob(f"{NAME}.*"))
    )
    print(f"report: {seconds:.1f} s (processor {processor:.1f} s), peak {peak:.2f} GiB; {sizes}")


def main() -> None:
    """Measure each number of trials that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trials", type=int, nargs="+")
    parser.add_argument("--keep", type=Path, help="leave the made-up results in this folder")
    arguments = parser.parse_args()
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as scratch:
            parent = (arguments.keep or Path(scratch)) / str(trials)
            measure(generate(parent, trials), Path(scratch) / "reports")


if __name__ == "__main__":
    main()
