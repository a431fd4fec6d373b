"""The ways in which one of the arms is treated unalike. Each changes one thing in a copy of the folder."""

from __future__ import annotations

import json
import shutil
from typing import Any

from transformers import Trainer, TrainerCallback

from harness.plan import Plan
from harness.records import read_record
from harness.rows import BATCHES
from pipelines.data.fingerprints import pair_line
from pipelines.data.prepare import IDS
from pipelines.data.prepared import PAIRS
from pipelines.models import load_base
from pipelines.stages import JudgeSettings
from pipelines.training import train as train_module
from pipelines.training.evidence import REFERENCE_ADAPTER
from tests.harness.audit.arms import (
    COMPARISON,
    MACHINE,
    NUM_PAIRS,
    OTHER_BASE,
    SFT_DATA,
    VERSIONS,
    Arms,
    Rows,
    cost_of,
    items,
    matched_by,
    rows_of,
    rows_of_test,
)
from tests.pipelines.training import tiny


def an_extra_bos(arms: Arms) -> None:
    arms.given(lambda rows: [row | {"prompt_ids": [2, *row["prompt_ids"]]} for row in rows])
    arms.train(arms.stage("orpo"))


def a_second_eos(arms: Arms) -> None:
    sides = ("chosen_ids", "rejected_ids")
    arms.given(lambda rows: [row | {side: [*row[side], tiny.EOS] for side in sides} for row in rows])
    arms.train(arms.stage("orpo"))


def rows_dropped_in_one_arm(arms: Arms) -> None:
    arms.given(lambda rows: rows[:7])
    arms.train(arms.stage("orpo"))


def an_empty_completion(arms: Arms) -> None:
    def without_labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[3]["labels"] = [-100] * len(rows[3]["labels"])
        return rows

    arms.sft_rows(without_labels)
    arms.train(arms.stage("sft"))
    arms.train(arms.stage("dpo"))


def an_empty_completion_in_dpo(arms: Arms) -> None:
    arms.given(without_a_chosen_reply)
    arms.train(arms.stage("dpo"))


def without_a_chosen_reply(rows: Rows) -> Rows:
    return [*rows[:3], rows[3] | {"chosen_ids": []}, *rows[4:]]


def masks_over_the_prompt(arms: Arms) -> None:
    arms.sft_rows(lambda rows: [row | {"labels": row["input_ids"]} for row in rows])
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


def an_empty_recording(arms: Arms) -> None:
    (arms.folder / "orpo-000000000000" / BATCHES).write_text("")


def a_recording_deleted(arms: Arms) -> None:
    (arms.folder / "dpo-000000000000" / BATCHES).unlink()


def hashes_of_the_prepared_pairs_deleted(arms: Arms) -> None:
    (arms.folder / tiny.DATA / PAIRS).unlink()


def the_rejected_replies_of_one_batch_dropped(arms: Arms) -> None:
    path = arms.folder / "dpo-000000000000" / BATCHES
    first, *others = [json.loads(line) for line in path.read_text().splitlines()]
    first["sequences"] = [sequence for sequence in first["sequences"] if sequence["side"] == "chosen"]
    path.write_text("".join(json.dumps(line) + "\n" for line in [first, *others]))


def another_template(arms: Arms) -> None:
    arms.given(lambda rows: [row | {"prompt_ids": [7, 8, *row["prompt_ids"][2:]]} for row in rows])
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


def another_loss_in_sft(arms: Arms) -> None:
    arms.train(arms.stage("sft", loss_type="dft"))
    arms.train(arms.stage("dpo"))


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


def the_base_as_reference_of_an_adapter(arms: Arms) -> None:
    """Without its frozen copy of SFT's adapter TRL switches adapters off for the reference."""
    make = train_module.make_trainer

    def made(*inputs: Any) -> Any:
        trainer = make(*inputs)
        trainer.model.delete_adapter(REFERENCE_ADAPTER)
        return trainer

    for kind in ("orpo", "sft"):
        arms.train(arms.stage(kind, tuning="lora"))
    arms.patch("train", "make_trainer", made)
    arms.train(arms.stage("dpo", tuning="lora", reference="adapter"))


def dpo_from_the_base(arms: Arms) -> None:
    arms.patch("train", "load_policy", lambda stage, folder, **_: load_base(stage, folder))
    arms.patch("train", "load_reference", load_base)
    arms.train(arms.stage("dpo"))


def more_epochs(arms: Arms) -> None:
    arms.train(arms.stage("orpo", num_train_epochs=3))


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


def a_test_pair_reaches_the_model(arms: Arms) -> None:
    """The splits are apart by what was prepared; what a trainer was given is not."""
    of_test = rows_of_test()[0]
    arms.given(lambda rows: [*rows[:2], rows[2] | {name: of_test[name] for name in IDS}, *rows[3:]])
    arms.train(arms.stage("orpo"))


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


def swept(arms: Arms, num_points: dict[str, int]) -> Plan:
    """Each arm is chosen from points, whose models and scores are those of the arm itself."""
    plan = json.loads((arms.folder / COMPARISON).read_text())
    plan["comparison"]["sweep"] = {
        "arms": {
            arm: {"points": [{"0.arguments.learning_rate": 1e-3 * (1 + place)} for place in range(count)]}
            for arm, count in num_points.items()
        }
    }
    plan["trials"] += [
        {**trial, "name": f"{trial['name']}@{place}", "role": "point", "seed": seed}
        for trial in plan["trials"]
        for place in range(num_points[trial["name"]])
        for seed in (1000, 1001)
    ]
    (arms.folder / COMPARISON).write_text(json.dumps(plan))
    return Plan.model_validate(plan)


def a_point_more_for_one_arm(arms: Arms) -> None:
    swept(arms, {"orpo": 3, "sft-dpo": 2})


def another_length_limit_in_evaluation(arms: Arms) -> None:
    record = read_record(arms.folder / f"evaluate-1{'0' * 11}")
    assert record is not None
    settings = record.stage.settings.model_copy(update={"max_length": 16})
    arms.change(record.stage.id, stage=record.stage.model_copy(update={"settings": settings}))


def another_length_limit_of_a_judge(arms: Arms) -> None:
    record = read_record(arms.folder / f"judge-1{'0' * 11}")
    assert record is not None
    assert isinstance(record.stage.settings, JudgeSettings)
    judge = record.stage.settings.judge.model_copy(update={"max_length": 16})
    settings = record.stage.settings.model_copy(update={"judge": judge})
    arms.change(record.stage.id, stage=record.stage.model_copy(update={"settings": settings}))


def fewer_items_in_evaluation(arms: Arms) -> None:
    record = read_record(arms.folder / f"evaluate-1{'0' * 11}")
    assert record is not None
    items(arms, record.stage, ["a", "b"])


def another_library_version(arms: Arms) -> None:
    arms.change("orpo-000000000000", versions=VERSIONS | {"trl": "0.29.0"})


def another_machine(arms: Arms) -> None:
    arms.change("orpo-000000000000", machine=MACHINE.model_copy(update={"processor": "Other CPU"}))
