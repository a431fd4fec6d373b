"""A small comparison trained in this process, and the ways in which one of its arms is treated unalike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

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
from harness.results import BATCHES
from pipelines.data.fingerprints import pair_line
from pipelines.data.prepared import PAIRS
from pipelines.evaluations import PreferenceEvaluation
from pipelines.models import load_base
from pipelines.outcomes import DataOutcome, EvaluateOutcome
from pipelines.stages import EvaluateSettings, ModelSettings, Stage, StageInputs
from pipelines.training import train as train_module
from pipelines.training.train import train
from tests.pipelines.training import tiny

OTHER_BASE, SFT_DATA = "pretrain-111111111111", "data-111111111111"
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
Rows = Callable[..., Any]


def rows_of(count: int, *, name: str) -> list[dict[str, Any]]:
    return [
        row | {"uid": f"{name}-{row['uid']}", "prompt_text": f"{name} {row['uid']}"}
        for row in tiny.pairs(count)
    ]


@dataclass
class Arms:
    """The results folder of orpo against sft-dpo, and how to train one of their stages again."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch | None = None

    def stage(self, kind: str, **changes: Any) -> Stage:
        """A stage as it should be: steps of 4 pairs, in two micro-batches, a schedule that ends."""
        shape = {"micro_batch": 2, "effective_batch": 4, "num_train_epochs": 2, "lr_scheduler_type": "linear"}
        policy = tiny.SFT if kind == "dpo" else None
        return tiny.stage(kind, policy=policy, nll="completion", mean_over="step", **{**shape, **changes})

    def train(self, stage: Stage) -> None:
        shutil.rmtree(self.folder / stage.id, ignore_errors=True)
        outcome = train(stage, tiny.folder_of(self.folder, stage), tiny.Silent())
        self.write(stage, outcome)

    def write(self, stage: Stage, outcome: Any, **changes: Any) -> None:
        record = {
            "machine": MACHINE,
            "versions": VERSIONS,
            "cost": None,
            "git_commit": None,
            "started_at": "",
        }
        (self.folder / stage.id).mkdir(exist_ok=True)
        write_record(
            self.folder / stage.id, Record(stage=stage, status="done", outcome=outcome, **(record | changes))
        )

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

    def rows(self, kind: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """The next trainer of this kind makes other rows of the same pairs."""
        module = __import__(f"pipelines.training.{kind}", fromlist=["rows"])
        make = getattr(module, f"{kind}_rows")

        def changed(*inputs: Any) -> Any:
            made = make(*inputs)
            return type(made).from_list(change([made[place] for place in range(len(made))]))

        self.patch(kind, f"{kind}_rows", changed)

    def pairs(self, train_rows: list[dict[str, Any]], test_rows: list[dict[str, Any]]) -> None:
        with (self.folder / tiny.DATA / PAIRS).open("w") as file:
            for split, rows in (("train", train_rows), ("test", test_rows)):
                file.writelines(json.dumps(pair_line(row, split, [tiny.EOS])) + "\n" for row in rows)


def make_arms(folder: Path) -> Arms:
    """Train both arms once, as they should be."""
    arms = Arms(folder)
    train_rows, test_rows = rows_of(NUM_PAIRS, name="train"), rows_of(4, name="test")
    # Another first token each: the test's sequences are not those of the training split.
    test_rows = [row | {"prompt_ids": [9, 9, *row["prompt_ids"]]} for row in test_rows]
    tiny.make_inputs(folder, rows=train_rows)
    other = AutoModelForCausalLM.from_pretrained(folder / tiny.BASE / "model")
    with torch.no_grad():
        next(iter(other.parameters())).mul_(1.001)
    other.save_pretrained(folder / OTHER_BASE / "model")
    arms.pairs(train_rows, test_rows)
    for kind in ("sft", "dpo", "orpo"):
        arms.train(arms.stage(kind))
    evaluations = [_evaluated(arms, name) for name in ("orpo", "dpo")]
    _write_plan(arms, evaluations)
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
    (arms.folder / stage.id).mkdir()
    items(arms, stage, ["a", "b", "c"])
    return stage


def items(arms: Arms, stage: Stage, names: list[str]) -> None:
    rows = [{"item": name, "preference_accuracy": 1.0} for name in names]
    (arms.folder / stage.id / ITEMS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    means = {"preference_accuracy": 1.0}
    arms.write(
        stage,
        EvaluateOutcome(group="preference", means=means, num_items={"preference_accuracy": len(names)}),
    )


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


def _write_plan(arms: Arms, evaluations: list[Stage]) -> None:
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
        )
        for name, training, evaluated in zip(
            ("orpo", "sft-dpo"),
            (["orpo-000000000000"], [tiny.SFT, "dpo-000000000000"]),
            evaluations,
            strict=True,
        )
    ]
    plan = Plan(
        comparison=Comparison.model_validate(comparison()),
        decision_hash="0",
        trials=trials,
        stages=[data, *stages, *evaluations],
    )
    write_json(arms.folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))


# What follows are the unfairnesses. Each changes one thing in a copy of the folder.


def an_extra_bos(arms: Arms) -> None:
    def with_bos(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            for side in ("chosen", "rejected"):
                row[f"{side}_input_ids"] = [2, *row[f"{side}_input_ids"]]
                row[f"{side}_attention_mask"] = [1, *row[f"{side}_attention_mask"]]
                row[f"{side}_labels"] = [-100, *row[f"{side}_labels"]]
        return rows

    arms.rows("orpo", with_bos)
    arms.train(arms.stage("orpo"))


def a_second_eos(arms: Arms) -> None:
    def with_eos(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            for side in ("chosen", "rejected"):
                row[f"{side}_input_ids"] += [tiny.EOS]
                row[f"{side}_attention_mask"] += [1]
                row[f"{side}_labels"] += [tiny.EOS]
        return rows

    arms.rows("orpo", with_eos)
    arms.train(arms.stage("orpo"))


def rows_dropped_in_one_arm(arms: Arms) -> None:
    arms.rows("orpo", lambda rows: rows[:7])
    arms.train(arms.stage("orpo"))


def an_empty_completion(arms: Arms) -> None:
    def without_labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[3]["labels"] = [-100] * len(rows[3]["labels"])
        return rows

    arms.rows("sft", without_labels)
    arms.train(arms.stage("sft"))
    arms.train(arms.stage("dpo"))


def masks_over_the_prompt(arms: Arms) -> None:
    arms.rows("sft", lambda rows: [row | {"labels": row["input_ids"]} for row in rows])
    arms.train(arms.stage("sft"))
    arms.train(arms.stage("dpo"))


def another_shuffle_seed(arms: Arms) -> None:
    arms.arguments(data_seed=12345)
    arms.train(arms.stage("orpo"))


def another_shuffle_seed_within_an_epoch(arms: Arms) -> None:
    """As many pairs in each arm, and an epoch is not finished in any stage."""
    matched_by(arms, "pairs")
    arms.train(arms.stage("sft", max_steps=1))
    arms.train(arms.stage("dpo", max_steps=1))
    arms.arguments(data_seed=12345)
    arms.train(arms.stage("orpo", max_steps=2))


def the_same_pairs_in_every_step(arms: Arms) -> None:
    matched_by(arms, "none")
    arms.train(arms.stage("orpo", max_steps=5))
    path = arms.folder / "orpo-000000000000" / BATCHES
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        line["sequences"] = lines[place % 2]["sequences"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def a_recording_cut_short(arms: Arms) -> None:
    path = arms.folder / "orpo-000000000000" / BATCHES
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))


def another_template(arms: Arms) -> None:
    def otherwise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            for side in ("chosen", "rejected"):
                row[f"{side}_input_ids"] = [7, 8, *row[f"{side}_input_ids"][2:]]
        return rows

    arms.rows("orpo", otherwise)
    arms.train(arms.stage("orpo"))


def another_base_revision(arms: Arms) -> None:
    stage = arms.stage("orpo")
    arms.train(stage.model_copy(update={"inputs": stage.inputs.model_copy(update={"base": OTHER_BASE})}))


def a_last_partial_batch_dropped(arms: Arms) -> None:
    arms.arguments(dataloader_drop_last=True)
    arms.train(arms.stage("orpo", micro_batch=4))


def accumulation_ignored(arms: Arms) -> None:
    arms.arguments(gradient_accumulation_steps=1)
    arms.train(arms.stage("orpo"))


def lora_on_fewer_modules(arms: Arms) -> None:
    shutil.rmtree(arms.folder / "dpo-000000000000")
    arms.train(arms.stage("orpo", tuning="lora"))
    stage = arms.stage("sft", tuning="lora")
    lora = stage.settings.lora.model_copy(update={"target_modules": ["q_proj"]})
    arms.train(stage.model_copy(update={"settings": stage.settings.model_copy(update={"lora": lora})}))


def another_precision(arms: Arms) -> None:
    stage = arms.stage("orpo")
    arms.train(stage.model_copy(update={"settings": stage.settings.model_copy(update={"dtype": "bfloat16"})}))


def clipping_off(arms: Arms) -> None:
    arms.train(arms.stage("orpo", max_grad_norm=0.0))


def as_many_warm_up_steps_in_stages_of_other_lengths(arms: Arms) -> None:
    matched_by(arms, "pairs")
    for kind, steps in (("sft", 3), ("dpo", 3), ("orpo", 6)):
        arms.train(arms.stage(kind, max_steps=steps, warmup_steps=2))


def a_schedule_for_twice_the_steps(arms: Arms) -> None:
    create = Trainer.create_scheduler

    def longer(self: Trainer, num_training_steps: int, optimizer: Any = None) -> Any:
        return create(self, 2 * num_training_steps, optimizer)

    assert arms.monkeypatch is not None
    arms.monkeypatch.setattr(Trainer, "create_scheduler", longer)
    arms.train(arms.stage("orpo"))


class StopEarly(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == 2


def stopped_early(arms: Arms) -> None:
    make = train_module.make_trainer

    def made(*inputs: Any) -> Any:
        trainer = make(*inputs)
        trainer.add_callback(StopEarly())
        return trainer

    arms.patch("train", "make_trainer", made)
    arms.train(arms.stage("orpo"))


def the_base_as_reference(arms: Arms) -> None:
    arms.patch("train", "load_reference", load_base)
    arms.train(arms.stage("dpo"))


def dpo_from_the_base(arms: Arms) -> None:
    arms.patch("train", "load_policy", lambda stage, folder, **_: load_base(stage, folder))
    arms.patch("train", "load_reference", load_base)
    arms.train(arms.stage("dpo"))


def more_epochs(arms: Arms) -> None:
    arms.train(arms.stage("orpo", num_train_epochs=3))


def matched_by(arms: Arms, match: str) -> None:
    """The plan says that something else than epochs was matched."""
    plan = json.loads((arms.folder / COMPARISON).read_text())
    plan["comparison"]["budget"] = {"match": match}
    (arms.folder / COMPARISON).write_text(json.dumps(plan))


def pairs_of_one_stage_only(arms: Arms) -> None:
    """Matched to ORPO's pairs: SFT alone has as many, DPO comes on top."""
    matched_by(arms, "pairs")


def tokens_matched_by_pairs(arms: Arms) -> None:
    """As many pairs, but SFT's have one side."""
    matched_by(arms, "tokens")
    arms.train(arms.stage("sft", max_steps=3))
    arms.train(arms.stage("dpo", max_steps=3))


def seconds_by_a_wrong_calibration(arms: Arms) -> None:
    """DPO took longer than its calibration said."""
    matched_by(arms, "seconds")
    for stage_id, seconds in (("orpo-000000000000", 100.0), (tiny.SFT, 40.0), ("dpo-000000000000", 63.0)):
        arms.change(stage_id, cost=cost_of(seconds))


def a_test_prompt_in_train(arms: Arms) -> None:
    train_rows = rows_of(NUM_PAIRS, name="train")
    arms.pairs(train_rows, [rows_of(1, name="test")[0] | {"prompt_text": train_rows[2]["prompt_text"]}])


def a_test_prompt_in_train_but_for_its_case(arms: Arms) -> None:
    train_rows = rows_of(NUM_PAIRS, name="train")
    text = f"  {train_rows[2]['prompt_text'].upper()}? "
    arms.pairs(train_rows, [rows_of(1, name="test")[0] | {"prompt_text": text}])


def a_test_prompt_in_sft_data(arms: Arms) -> None:
    """SFT has a data set of its own, and one of its prompts is tested."""
    shutil.copytree(arms.folder / tiny.DATA, arms.folder / SFT_DATA)
    (arms.folder / SFT_DATA / "record.json").unlink()
    tested = json.loads((arms.folder / tiny.DATA / PAIRS).read_text().splitlines()[-1])
    rows = rows_of(NUM_PAIRS, name="train")
    lines = [pair_line(row | {"prompt_text": f"sft {row['uid']}"}, "train", [tiny.EOS]) for row in rows]
    lines[4] |= {name: tested[name] for name in ("prompt", "prompt_normalised")}
    (arms.folder / SFT_DATA / PAIRS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = arms.stage("sft")
    inputs = stage.inputs.model_copy(update={"demonstrations": SFT_DATA})
    arms.train(stage.model_copy(update={"inputs": inputs}))
    arms.train(arms.stage("dpo"))


def another_share_than_the_settings_say(arms: Arms) -> None:
    """SFT is to have half of the pairs and its trainer gets all."""
    patched = train_module.share_of
    arms.patch("train", "share_of", lambda uids, share: patched(uids, 1.0))
    stage = arms.stage("sft")
    arms.train(stage.model_copy(update={"settings": stage.settings.model_copy(update={"share": 0.5})}))
    arms.train(arms.stage("dpo"))


def twice_the_tuning_points(arms: Arms) -> None:
    plan = json.loads((arms.folder / COMPARISON).read_text())
    plan["comparison"]["arms"]["orpo-2"] = [
        {"trainer": "orpo", "arguments": {"learning_rate": 2e-2, "num_train_epochs": 2}}
    ]
    (arms.folder / COMPARISON).write_text(json.dumps(plan))


def another_length_limit_in_evaluation(arms: Arms) -> None:
    record = read_record(arms.folder / f"evaluate-1{'0' * 11}")
    assert record is not None
    settings = record.stage.settings.model_copy(update={"max_length": 16})
    arms.change(record.stage.id, stage=record.stage.model_copy(update={"settings": settings}))


def fewer_items_in_evaluation(arms: Arms) -> None:
    record = read_record(arms.folder / f"evaluate-1{'0' * 11}")
    assert record is not None
    items(arms, record.stage, ["a", "b"])


def another_library_version(arms: Arms) -> None:
    arms.change("orpo-000000000000", versions=VERSIONS | {"trl": "0.29.0"})


def another_machine(arms: Arms) -> None:
    arms.change("orpo-000000000000", machine=MACHINE.model_copy(update={"processor": "Other CPU"}))


@dataclass(frozen=True)
class Planted:
    """An unfairness, the check that is meant for it, and those that look at the same thing and fail as well."""

    plant: Callable[[Arms], None]
    check: str
    also: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def words(self) -> str:
        """Such as `an extra bos`."""
        return self.plant.__name__.replace("_", " ")


PLANTED = (
    Planted(an_extra_bos, "same_ids", evidence="orpo seed 0: orpo .* tokens, .* were prepared"),
    Planted(a_second_eos, "one_end_of_turn", ("same_ids",), "has 2 after its prompt"),
    Planted(rows_dropped_in_one_arm, "same_pairs", evidence="7 rows in its trainer, 10 prepared"),
    Planted(an_empty_completion, "no_empty_completion", evidence="sft .* 2 of 20 sequences have nothing"),
    Planted(masks_over_the_prompt, "same_masks", evidence="positions 1-.*, not"),
    Planted(another_shuffle_seed, "same_order", evidence="orpo .* another than in|another than in orpo"),
    Planted(another_shuffle_seed_within_an_epoch, "same_order", evidence="pair number 1 is another than in"),
    Planted(
        the_same_pairs_in_every_step,
        "same_pairs",
        ("same_order",),
        "10 of 10 prepared pairs came more or less often",
    ),
    Planted(a_recording_cut_short, "recorded", evidence="10 pairs in 3 steps, the model got 20 in 6"),
    Planted(another_template, "same_ids", evidence="is no prepared pair's"),
    Planted(another_base_revision, "same_base_weights", evidence="starts from"),
    Planted(
        a_last_partial_batch_dropped,
        "no_dropped_batch",
        ("same_pairs", "same_order", "budget_matched", "same_settings"),
        "16 pairs reached the model, its 10 rows make 20",
    ),
    Planted(accumulation_ignored, "same_effective_batch", evidence="step 1 has 2 pairs, not 4"),
    Planted(lora_on_fewer_modules, "same_precision_and_adapter", evidence="q_proj"),
    Planted(another_precision, "same_precision_and_adapter", evidence="bfloat16 in orpo"),
    Planted(clipping_off, "same_settings", evidence=r"max_grad_norm is 0\.0 in orpo"),
    Planted(
        as_many_warm_up_steps_in_stages_of_other_lengths,
        "same_settings",
        evidence="the warm-up is 2 of 6 steps in orpo .*, 2 of 3 steps in sft-dpo",
    ),
    Planted(a_schedule_for_twice_the_steps, "schedule_ended", evidence="is still 58% of the highest"),
    Planted(
        stopped_early, "schedule_ended", ("no_dropped_batch", "budget_matched"), "stopped at step 2 of 6"
    ),
    Planted(the_base_as_reference, "reference_is_sft_policy", evidence="its reference is not the policy of"),
    Planted(dpo_from_the_base, "reference_is_sft_policy", evidence="its policy is not the policy of"),
    Planted(more_epochs, "budget_matched", ("same_settings",), "3 epochs in orpo"),
    Planted(
        pairs_of_one_stage_only, "budget_matched", evidence="40 pairs in sft-dpo seed 0, 20 in orpo seed 0"
    ),
    Planted(
        tokens_matched_by_pairs, "budget_matched", evidence="tokens in sft-dpo seed 0, .* in orpo seed 0"
    ),
    Planted(
        seconds_by_a_wrong_calibration,
        "budget_matched",
        evidence="103 s of training in sft-dpo, 100 in orpo: 3.0% apart",
    ),
    Planted(a_test_prompt_in_train, "no_test_prompt_in_training", evidence="as it is"),
    Planted(
        a_test_prompt_in_train_but_for_its_case,
        "no_test_prompt_in_training",
        evidence="but for case, spacing",
    ),
    Planted(
        a_test_prompt_in_sft_data,
        "no_test_prompt_in_training",
        evidence=f"{SFT_DATA}: 1 test prompts are in the training split as it is",
    ),
    Planted(another_share_than_the_settings_say, "same_pairs", evidence="10 rows in its trainer, 5 prepared"),
    Planted(twice_the_tuning_points, "equal_tuning_effort", evidence="2 for the recipe of orpo, 1 for"),
    Planted(another_length_limit_in_evaluation, "equal_evaluation_inputs", evidence="max_length differ"),
    Planted(fewer_items_in_evaluation, "equal_evaluation_inputs", evidence="1 items are in one of them only"),
    Planted(another_library_version, "same_library_versions", evidence=r"trl is .*0\.29\.0"),
    Planted(another_machine, "same_kind_of_hardware", evidence="Other CPU"),
)
