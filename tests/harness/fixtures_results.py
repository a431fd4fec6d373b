"""Makes results folders that look like a run's, through the project's own models, without running anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import Comparison
from harness.metrics import is_metric
from harness.plan import COMPARISON, Plan, Trial
from harness.planning import make_plan
from harness.records import (
    ITEMS,
    LOSSES,
    PROMPT,
    REPLIES,
    WEIGHTS_BY_LAYER,
    Cost,
    Failure,
    Machine,
    Missing,
    PhaseCost,
    Record,
    Status,
    write_json,
    write_record,
)
from pipelines.outcomes import (
    CalibrateOutcome,
    DataOutcome,
    DroppedRows,
    EvaluateOutcome,
    PretrainOutcome,
    ReferenceOutcome,
    RewardOutcome,
    SplitCount,
    TrainOutcome,
)
from pipelines.stages import CalibrateSettings, EvaluateSettings, JudgeSettings, Stage, TrainSettings

MIB = 2**20
PRODUCTS = {
    "data": ("splits", "tokenizer"),
    "reference": ("logps",),
    **dict.fromkeys(("pretrain", "sft", "dpo", "orpo"), ("model",)),
}
LEVELS = {"base": 0.45, "sft": 0.7, "orpo": 0.76, "sft-dpo": 0.75}
NUM_STEPS = 12
NO_GPU = Missing(reason="the stage ran on the CPU")


@dataclass(frozen=True)
class Run:
    """What is made up.

    Attributes:
        levels: Mean score of each model.
        failed: (model, seed) to (status, message): the last training stage of that trial failed.
        unfinished: (model, seed) that were never trained: no record.
        shifts: (model, seed) to what is added to that seed's level.
        groups: Groups of evaluations that the config has.
        replies: Texts that stand in for replies, in turn.
        changes: Further keys of the config.
        judges: Entries of `evaluations.judges`.
        chosen: Of a sweep: the chosen point of each arm.
    """

    seeds: int = 3
    num_items: int = 60
    levels: dict[str, float] = field(default_factory=lambda: dict(LEVELS))
    failed: dict[tuple[str, int], tuple[Status, str]] = field(default_factory=dict)
    unfinished: frozenset[tuple[str, int]] = frozenset()
    shifts: dict[tuple[str, int | None], float] = field(default_factory=dict)
    groups: tuple[str, ...] = ("preference", "generation", "benchmarks")
    replies: tuple[str, ...] = ("Hello Ada, I understand. The billing team looks into C-72.",)
    arms: list[str] | None = None
    decision: dict[str, Any] = field(default_factory=lambda: {"metric": "gold_score", "margin": 0.02})
    changes: dict[str, Any] = field(default_factory=dict)
    judges: tuple[dict[str, Any], ...] = ()
    chosen: dict[str, int] = field(default_factory=dict)

    def comparison(self) -> Comparison:
        evaluations: dict[str, Any] = {
            "preference": {} if "preference" in self.groups else None,
            "generation": {"judges": ["gold"]} if "generation" in self.groups else None,
            "benchmarks": {"tasks": ["toy_task"]} if "benchmarks" in self.groups else None,
            "drift": {} if "drift" in self.groups else None,
            "judges": list(self.judges),
        }
        content: dict[str, Any] = {
            "schema": 1,
            "name": "made-up",
            "model": {"name": "toy"},
            "data": {"path": "toy", "num_pairs": 500},
            "training": {"effective_batch": 16, "micro_batch": 8, "max_length": 128},
            "arms": {
                "orpo": [{"trainer": "orpo", "arguments": {"beta": 0.1, "learning_rate": 1e-3}}],
                "sft-dpo": [
                    {"trainer": "sft", "arguments": {"learning_rate": 1e-3}},
                    {"trainer": "dpo", "arguments": {"beta": 0.1, "learning_rate": 5e-4}},
                ],
            },
            "seeds": self.seeds,
            "device": "cpu",
            "threads": 1,
            "evaluations": evaluations,
            "decision": self.decision,
        }
        return Comparison.model_validate(content | self.changes)


def make_results(parent: Path, run: Run | None = None) -> Path:
    """Write a results folder below `parent` and return it."""
    run = run or Run()
    folder = parent / "made-up"
    write_results(folder, make_plan(run.comparison(), arms=run.arms, chosen=run.chosen), run)
    return folder


def write_results(folder: Path, plan: Plan, run: Run) -> None:
    """Write the plan into `folder`, and what its stages leave where they have left nothing yet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))
    broken, absent = _broken(plan, run)
    for stage in plan.stages:
        if stage.id in absent or (folder / stage.id).is_dir():
            continue
        (folder / stage.id).mkdir()
        if stage.id in broken:
            status, message = broken[stage.id]
            _write(folder, stage, None, status=status, message=message)
        else:
            _write(folder, stage, _outcome(plan, stage, folder, run))


def give_prompts(folder: Path, prompt_of: Callable[[int], int]) -> list[str]:
    """As if the items of every evaluation came from the prompts that `prompt_of` says for their places.

    Returns:
        The prompt of each item, in the order of the files.
    """
    prompts: list[str] = []
    for path in sorted(folder.glob(f"*/{ITEMS}")):
        rows = _read_rows(path)
        prompts = [f"prompt-{prompt_of(place):04d}" for place in range(len(rows))]
        _write_rows(path, [{**row, PROMPT: prompt} for row, prompt in zip(rows, prompts, strict=True)])
    return prompts


def add_products(folder: Path) -> None:
    """Empty folders in place of the weights and tokens that stages of `folder` leave."""
    for stage in folder.iterdir():
        for product in PRODUCTS.get(stage.name.partition("-")[0], ()):
            (stage / product).mkdir(exist_ok=True)


def _broken(plan: Plan, run: Run) -> tuple[dict[str, tuple[Status, str]], set[str]]:
    """Stages that failed, and those that were not run because of it."""
    broken = {
        trial.training[-1]: run.failed[trial.name, trial.seed]
        for trial in plan.trials
        if trial.seed is not None and (trial.name, trial.seed) in run.failed
    }
    absent = {
        stage_id
        for trial in plan.trials
        if trial.seed is not None and (trial.name, trial.seed) in run.unfinished
        for stage_id in [trial.training[-1], *trial.evaluations]
    }
    for stage in plan.stages:
        if any(name in broken or name in absent for name in stage.inputs.model_dump().values() if name):
            absent.add(stage.id)
    return broken, absent


def _outcome(plan: Plan, stage: Stage, folder: Path, run: Run) -> Any:
    settings = stage.settings
    if isinstance(settings, TrainSettings):
        return _train(stage, settings, folder / stage.id)
    if isinstance(settings, EvaluateSettings):
        trial = next(trial for trial in plan.trials if stage.id in [*trial.evaluations, *trial.preparation])
        return _evaluate(trial, settings, folder / stage.id, run)
    if isinstance(settings, CalibrateSettings):
        seconds = {"sft": 0.2, "dpo": 0.5, "orpo": 0.4}[settings.stage.kind]
        return CalibrateOutcome(step_seconds=[seconds] * (settings.num_steps - 1), start_seconds=0.1)
    if isinstance(settings, JudgeSettings):
        return _judge(stage, settings, folder)
    if settings.kind == "reward":
        return RewardOutcome(
            num_parameters=250_000,
            num_steps=80,
            num_pairs=300,
            final_loss=0.1,
            validation_accuracy=0.9,
            weights_hash="ef",
        )
    if settings.kind == "reference":
        return ReferenceOutcome(num_pairs=100, num_reference_tokens=12_000)
    if settings.kind == "data":
        split = SplitCount(
            num_pairs=100, num_prompt_tokens=2500, num_chosen_tokens=3500, num_rejected_tokens=3600
        )
        dropped = DroppedRows(reason="chosen and rejected are equal", num_rows=2, first_rows=[4, 17])
        return DataOutcome(
            form="prompt",
            num_rows=302,
            dropped=[dropped],
            splits={"train": split, "validation": split, "test": split},
            content_hash="0123456789abcdef",
            chat_template_source="default",
            adds_bos=False,
            end_of_turn_ids=[1],
            pad_token_id=0,
        )
    return PretrainOutcome(
        num_parameters=250_000, num_steps=560, num_tokens=500_000, final_loss=1.2, weights_hash="ab"
    )


def _train(stage: Stage, settings: TrainSettings, folder: Path) -> TrainOutcome:
    random = np.random.default_rng(stage.seed)
    start = {"sft": 2.0, "dpo": 0.693, "orpo": 2.2}[settings.kind]
    losses = start * np.exp(-np.arange(NUM_STEPS) / 10) + random.normal(0, 0.02, NUM_STEPS)
    rows = [
        {"step": step, "loss": float(loss), "learning_rate": 1e-3 * (1 - (step - 1) / NUM_STEPS)}
        for step, loss in enumerate(losses, start=1)
    ]
    _write_rows(folder / LOSSES, rows)
    return TrainOutcome(
        num_steps=NUM_STEPS,
        num_pairs_seen=NUM_STEPS * 16,
        num_policy_tokens=NUM_STEPS * 16 * (60 if settings.kind == "sft" else 120),
        num_reference_tokens=NUM_STEPS * 16 * 120 if settings.kind == "dpo" else 0,
        num_parameters=250_000,
        num_trainable_parameters=250_000,
        first_loss=float(losses[0]),
        final_loss=float(losses[-1]),
        effective_arguments={
            **settings.arguments,
            "seed": stage.seed,
            "num_train_epochs": 2,
            "report_to": ["none"],
            "bf16": None if settings.kind == "orpo" else False,  # ORPO's default, so its trainer lists none
            "max_length": None,  # TRL's own: the loader has done the cutting
            "pad_token": "<PAD_TOKEN>" if settings.kind == "dpo" else None,
        },
        weights_hash="cd",
    )


def _evaluate(trial: Trial, settings: EvaluateSettings, folder: Path, run: Run) -> EvaluateOutcome:
    group = settings.evaluation.group
    random = np.random.default_rng([sum(map(ord, trial.name)), 0 if trial.seed is None else trial.seed + 1])
    difficulty = np.random.default_rng(5).normal(0, 0.1, run.num_items)
    level = (
        run.levels[trial.name.partition("@")[0]]
        + random.normal(0, 0.01)
        + run.shifts.get((trial.name, trial.seed), 0)
    )
    scores = np.clip(level + difficulty + random.normal(0, 0.05, run.num_items), 0, 1)
    rows: list[dict[str, Any]] = []
    for place, score in enumerate(scores):
        values: dict[str, float] = {
            "preference": {"preference_accuracy": float(score > 0.5), "chosen_nll": 2 - float(score)},
            "generation": {
                "gold_score": float(score),
                "gold_part_team": float(place % 4 > 0),
                "reply_length_tokens": 30.0,
                "stopped_share": 1.0,
            },
            "benchmarks": {"benchmark_toy_task": float(score > 0.6)},
            "drift": {"kl_to_base": 1 - float(score)},
        }[group]
        rows.append({"item": f"item-{place:04d}", **values})
    _write_rows(folder / ITEMS, rows)
    if group == "drift":
        layers = [{"layer": f"layer {place}", "relative": level * (1 + place)} for place in range(3)]
        _write_rows(folder / WEIGHTS_BY_LAYER, layers)
    if group == "generation":
        _write_rows(folder / REPLIES, [_reply(row["item"], place, run) for place, row in enumerate(rows)])
    names = [name for name in rows[0] if is_metric(name)]
    return EvaluateOutcome(
        group=group,
        means={name: sum(row[name] for row in rows) / len(rows) for name in names},
        num_items={name: len(rows) for name in names},
    )


def _judge(stage: Stage, settings: JudgeSettings, folder: Path) -> EvaluateOutcome:
    """A judge that goes by the gold score; one that compares is drawn to what it is shown first and to length."""
    own, other = (
        _read_rows(folder / name / ITEMS) if name else []
        for name in (stage.inputs.replies, stage.inputs.opponent)
    )
    random = np.random.default_rng(len(settings.judge.name))
    name = settings.judge.name
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(own):
        about = {"item": row["item"], "prompt": row["item"], "category": f"kind {place % 3}"}
        if not other:
            rows.append(about | {f"score_{name}": round(row["gold_score"], 1), "num_tokens": 30 + place % 7})
            continue
        gain = 20 * (row["gold_score"] - other[place]["gold_score"])
        first, last = (float(random.random() < 1 / (1 + np.exp(-gain + shift))) for shift in (-0.5, 0.5))
        about |= {"length_difference": place % 5 - 2, "unparsable": int(place % 20 == 0)}
        if place % 20:
            win = first if first == last else 0.5
            about |= {f"win_rate_{name}": win, "win_shown_first": first, "win_shown_last": last}
        rows.append(about)
    _write_rows(folder / stage.id / ITEMS, rows)
    metric = f"win_rate_{name}" if other else f"score_{name}"
    values = [row[metric] for row in rows if metric in row]
    return EvaluateOutcome(
        group="judge", means={metric: sum(values) / len(values)}, num_items={metric: len(values)}
    )


def _reply(item: str, place: int, run: Run) -> dict[str, Any]:
    text = run.replies[place % len(run.replies)]
    return {
        "item": item,
        "prompt": f"{text} (asked)",
        "reply": text,
        "temperature": 0,
        "num_tokens": 12,
        "stopped": True,
        "gold": {"team": 1.0, "code": 0.5},
    }


def _write(
    folder: Path, stage: Stage, outcome: Any, *, status: Status = "done", message: str | None = None
) -> None:
    train = {"sft": 4.0, "dpo": 9.0, "orpo": 7.0, "reference": 1.0}.get(stage.kind, 0.0) * (
        1 + stage.seed % 97 * len(stage.kind) % 10 / 200
    )
    peak = {"sft": 500, "dpo": 700, "orpo": 600}.get(stage.kind, 400) * MIB
    phases = [("start", 1.5), ("train", train), ("other", 0.1)]
    cost = Cost(
        total_seconds=sum(seconds for _, seconds in phases),
        train_seconds=train,
        phases=[
            PhaseCost(
                name=name,  # type: ignore[arg-type]
                seconds=seconds,
                peak_resident_bytes=peak,
                peak_cuda_allocated_bytes=NO_GPU,
                peak_cuda_reserved_bytes=NO_GPU,
            )
            for name, seconds in phases
        ],
        peak_memory_bytes=peak,
        peak_memory_kind="resident",
        peak_device_memory_bytes=NO_GPU,
        sample_seconds=0.05,
        contended=stage.workers > 1 or None,
        workers=stage.workers,
    )
    record = Record(
        stage=stage,
        status=status,
        outcome=outcome,
        failure=None if message is None else Failure(message=message, evidence="the log's end"),
        cost=cost,
        machine=Machine(
            processor="Test CPU @ 2 GHz",
            num_cores=2,
            memory_bytes=8 * 2**30,
            accelerator=None,
            accelerator_memory_bytes=None,
            driver=None,
        ),
        versions={"python": "3.11.0", "torch": "2.13.0", "trl": "1.16.0"},
        git_commit="0123456789ab",
        started_at="2026-11-24T01:00:00+00:00",
    )
    write_record(folder / stage.id, record)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
