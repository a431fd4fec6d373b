"""A small comparison trained in this process: its folder, and how to train one of its stages again otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from harness.config import Comparison
from harness.plan import COMPARISON, Plan, Trial
from harness.records import (
    ITEMS,
    Cost,
    Machine,
    Missing,
    PhaseCost,
    Record,
    read_record,
    write_json,
    write_record,
)
from pipelines.data.fingerprints import pair_line
from pipelines.data.prepared import PAIRS
from pipelines.evaluations import PreferenceEvaluation
from pipelines.judge_settings import RewardModelJudge
from pipelines.outcomes import DataOutcome, EvaluateOutcome
from pipelines.stages import EvaluateSettings, JudgeSettings, ModelSettings, Stage, StageInputs
from pipelines.training import sft as sft_module
from pipelines.training import train as train_module
from pipelines.training.parts import Parts
from pipelines.training.train import train
from tests.pipelines.training import tiny

OTHER_BASE, SFT_DATA = "pretrain-111111111111", "data-111111111111"
ITEM_NAMES = ["a", "b", "c"]
NUM_PAIRS = 10
MACHINE = Machine(
    processor="Test CPU",
    num_cores=2,
    memory_bytes=1,
    accelerator=None,
    accelerator_memory_bytes=None,
    driver=None,
)
VERSIONS = {"python": "3.11.0", "torch": "2.13.0", "trl": "1.16.0"}
Rows = list[dict[str, Any]]
Change = Callable[[Rows], Rows]


def rows_of(count: int, *, name: str) -> Rows:
    return [
        row | {"uid": f"{name}-{row['uid']}", "prompt_text": f"{name} {row['uid']}"}
        for row in tiny.pairs(count)
    ]


def rows_of_test() -> Rows:
    """Their prompts begin with other tokens: their sequences are not those of the training split."""
    return [row | {"prompt_ids": [9, 9, *row["prompt_ids"]]} for row in rows_of(4, name="test")]


@dataclass
class Arms:
    """The results folder of orpo against sft-dpo, and how to train one of their stages again.

    Attributes:
        shape: What every stage has otherwise than is usual here.
    """

    folder: Path
    monkeypatch: pytest.MonkeyPatch | None = None
    shape: dict[str, Any] = field(default_factory=dict)

    def stage(self, kind: str, **changes: Any) -> Stage:
        """A stage as it should be: steps of 4 pairs, in two micro-batches, a schedule that ends."""
        usual = {"micro_batch": 2, "effective_batch": 4, "num_train_epochs": 2, "lr_scheduler_type": "linear"}
        fair = {"nll": "completion", "mean_over": "step"}
        policy = tiny.SFT if kind == "dpo" else None
        return tiny.stage(kind, policy=policy, **{**usual, **fair, **self.shape, **changes})

    def train(self, stage: Stage) -> None:
        shutil.rmtree(self.folder / stage.id, ignore_errors=True)
        outcome = train(stage, tiny.folder_of(self.folder, stage), tiny.Silent())
        self.write(stage, outcome)

    def write(self, stage: Stage, outcome: Any, **changes: Any) -> None:
        record = {
            "status": "done",
            "machine": MACHINE,
            "versions": VERSIONS,
            "cost": None,
            "git_commit": None,
            "started_at": "",
        }
        (self.folder / stage.id).mkdir(exist_ok=True)
        write_record(self.folder / stage.id, Record(stage=stage, outcome=outcome, **(record | changes)))

    def change(self, stage_id: str, **changes: Any) -> None:
        record = read_record(self.folder / stage_id)
        assert record is not None
        write_record(self.folder / stage_id, record.model_copy(update=changes))

    def patch(self, target: str, name: str, value: Any) -> None:
        assert self.monkeypatch is not None
        self.monkeypatch.setattr(f"pipelines.training.{target}.{name}", value)

    def arguments(self, **changes: Any) -> None:
        """The next trainer gets other arguments than the harness means to give it."""
        make = train_module.shared_arguments
        self.patch("train", "shared_arguments", lambda *inputs: make(*inputs) | changes)

    def given(self, change: Change) -> None:
        """The next trainer, whichever it is, is given other pairs than were prepared."""
        make = train_module.make_trainer

        def made(stage: Stage, folder: Path, parts: Parts) -> Any:
            pairs = Dataset.from_list(change([parts.pairs[place] for place in range(len(parts.pairs))]))
            return make(stage, folder, replace(parts, pairs=pairs))

        self.patch("train", "make_trainer", made)

    def sft_rows(self, change: Change) -> None:
        """The next SFT trainer makes other rows of the same pairs."""
        make = sft_module.sft_rows

        def changed(*inputs: Any) -> Any:
            made = make(*inputs)
            return type(made).from_list(change([made[place] for place in range(len(made))]))

        self.patch("sft", "sft_rows", changed)

    def pairs(self, train_rows: Rows, test_rows: Rows) -> None:
        with (self.folder / tiny.DATA / PAIRS).open("w") as file:
            for split, rows in (("train", train_rows), ("test", test_rows)):
                file.writelines(json.dumps(pair_line(row, split, [tiny.EOS])) + "\n" for row in rows)


def make_arms(folder: Path, **shape: Any) -> Arms:
    """Train both arms once, as they should be; `shape` is every stage's own."""
    arms = Arms(folder, shape=shape)
    train_rows = rows_of(NUM_PAIRS, name="train")
    tiny.make_inputs(folder, rows=train_rows)
    other = AutoModelForCausalLM.from_pretrained(folder / tiny.BASE / "model")
    with torch.no_grad():
        next(iter(other.parameters())).mul_(1.001)
    other.save_pretrained(folder / OTHER_BASE / "model")
    arms.pairs(train_rows, rows_of_test())
    for kind in ("sft", "dpo", "orpo"):
        arms.train(arms.stage(kind))
    evaluations = [_evaluated(arms, name) for name in ("orpo", "dpo")]
    _write_plan(arms, evaluations, [_judged(arms, evaluated) for evaluated in evaluations])
    return arms


def _evaluated(arms: Arms, policy: str) -> Stage:
    settings = EvaluateSettings(
        kind="evaluate",
        model=ModelSettings(name="toy"),
        dtype="float32",
        max_length=32,
        evaluation=PreferenceEvaluation(),
    )
    inputs = StageInputs(base=tiny.BASE, data=tiny.DATA, policy=f"{policy}-000000000000")
    stage = Stage(
        id=f"evaluate-{'1' if policy == 'orpo' else '2'}{'0' * 11}",
        settings=settings,
        inputs=inputs,
        seed=0,
        threads=1,
        device="cpu",
    )
    items(arms, stage, ITEM_NAMES)
    return stage


def _judged(arms: Arms, evaluated: Stage) -> Stage:
    judge = RewardModelJudge(name="reward", kind="reward_model", model="somewhere", max_length=32)
    stage = Stage(
        id=evaluated.id.replace("evaluate", "judge"),
        settings=JudgeSettings(kind="judge", judge=judge),
        inputs=StageInputs(data=tiny.DATA, replies=evaluated.id),
        seed=0,
        threads=1,
        device="cpu",
    )
    items(arms, stage, ITEM_NAMES, group="judge", metric="score_reward")
    return stage


def items(
    arms: Arms,
    stage: Stage,
    names: list[str],
    *,
    group: str = "preference",
    metric: str = "preference_accuracy",
) -> None:
    (arms.folder / stage.id).mkdir(exist_ok=True)
    rows = [{"item": name, metric: 1.0} for name in names]
    (arms.folder / stage.id / ITEMS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms.write(stage, EvaluateOutcome(group=group, means={metric: 1.0}, num_items={metric: len(names)}))


def cost_of(train_seconds: float) -> Cost:
    nothing = Missing(reason="the stage ran on the CPU")
    return Cost(
        total_seconds=train_seconds,
        train_seconds=train_seconds,
        phases=[
            PhaseCost(
                name="train",
                seconds=train_seconds,
                peak_resident_bytes=1,
                peak_cuda_allocated_bytes=nothing,
                peak_cuda_reserved_bytes=nothing,
            )
        ],
        peak_memory_bytes=1,
        peak_memory_kind="resident",
        peak_device_memory_bytes=nothing,
        sample_seconds=0.05,
    )


def comparison(**changes: Any) -> dict[str, Any]:
    rate = {"learning_rate": 1e-2, "num_train_epochs": 2}
    return {
        "schema": 1,
        "name": "planted",
        "model": {"name": "toy"},
        "data": {"path": "toy"},
        "training": {"effective_batch": 4, "micro_batch": 2, "max_length": 32},
        "arms": {
            "orpo": [{"trainer": "orpo", "arguments": rate}],
            "sft-dpo": [{"trainer": "sft", "arguments": rate}, {"trainer": "dpo", "arguments": rate}],
        },
        "seeds": 1,
    } | changes


def _write_plan(arms: Arms, evaluations: list[Stage], judgements: list[Stage]) -> None:
    stages = [arms.stage(kind) for kind in ("sft", "dpo", "orpo")]
    data = Stage(
        id=tiny.DATA,
        settings={"kind": "data", "model": {"name": "toy"}, "data": {"path": "toy"}, "max_length": 32},
        seed=0,
        threads=1,
        device="cpu",
    )
    outcome = DataOutcome.model_validate_json((arms.folder / tiny.DATA / "data.json").read_text())
    arms.write(data, outcome)
    trials = [
        Trial(
            name=name,
            role="arm",
            seed=0,
            preparation=[tiny.DATA],
            training=training,
            evaluations=[evaluated.id],
            judgements=[judged.id],
        )
        for name, training, evaluated, judged in zip(
            ("orpo", "sft-dpo"),
            (["orpo-000000000000"], [tiny.SFT, "dpo-000000000000"]),
            evaluations,
            judgements,
            strict=True,
        )
    ]
    plan = Plan(
        comparison=Comparison.model_validate(comparison()),
        decision_hash="0",
        trials=trials,
        stages=[data, *stages, *evaluations, *judgements],
    )
    write_json(arms.folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))


def change_config(arms: Arms, /, **changes: Any) -> None:
    """The plan's config says something else."""
    plan = json.loads((arms.folder / COMPARISON).read_text())
    plan["comparison"] |= changes
    (arms.folder / COMPARISON).write_text(json.dumps(plan))


def matched_by(arms: Arms, match: str) -> None:
    """The plan says that something else than epochs was matched."""
    change_config(arms, budget={"match": match})
