"""What makes a comparison less than equal and is no reason to call it unfair: declared, or a matter of its costs or its recording."""

from __future__ import annotations

import json

from harness.plan import COMPARISON
from harness.records import Cost, Missing, read_record
from harness.rows import BATCHES
from pipelines.outcomes import TrainOutcome
from tests.harness.audit.arms import Arms, change_config, comparison
from tests.harness.audit.planted import more_epochs, swept, twice_the_tuning_points


def orpo_as_it_ships(arms: Arms) -> None:
    """`preset: stock`."""
    arms.train(arms.stage("orpo", mean_over="micro_batch", nll="prompt_and_completion"))


def dpo_as_it_ships(arms: Arms) -> None:
    arms.train(arms.stage("dpo", mean_over="micro_batch"))


def clipping_off_as_declared(arms: Arms) -> None:
    config = comparison(allow_difference={"max_grad_norm": "the published ORPO run does not clip"})
    (orpo,) = config["arms"]["orpo"]
    config["arms"]["orpo"] = [orpo | {"arguments": orpo["arguments"] | {"max_grad_norm": 0.0}}]
    change_config(arms, **config)
    arms.train(arms.stage("orpo", max_grad_norm=0.0))


def more_epochs_as_declared(arms: Arms) -> None:
    change_config(arms, allow_difference={"num_train_epochs": "as published"})
    more_epochs(arms)


def twice_the_tuning_points_as_declared(arms: Arms) -> None:
    change_config(arms, allow_difference={"tuning": "lambda was tried at two values"})
    twice_the_tuning_points(arms)


def a_point_out_of_memory(arms: Arms) -> None:
    swept(arms, {"orpo": 2, "sft-dpo": 2})
    stage = arms.stage("orpo").model_copy(update={"id": _only_seed_of_a_point(arms, "orpo-222222222222")})
    arms.write(stage, None, status="out_of_memory")


def a_point_never_run(arms: Arms) -> None:
    swept(arms, {"orpo": 2, "sft-dpo": 2})
    _only_seed_of_a_point(arms, "orpo-222222222222")


def _only_seed_of_a_point(arms: Arms, stage_id: str) -> str:
    """One seed of one of ORPO's points has a training stage of its own."""
    plan = json.loads((arms.folder / COMPARISON).read_text())
    trial = next(trial for trial in plan["trials"] if (trial["name"], trial["seed"]) == ("orpo@1", 1001))
    trial["training"] = [stage_id]
    stage = arms.stage("orpo").model_copy(update={"id": stage_id})
    plan["stages"].append(stage.model_dump(mode="json"))
    (arms.folder / COMPARISON).write_text(json.dumps(plan))
    return stage_id


def every_16th_step_recorded(arms: Arms) -> None:
    for kind in ("sft", "dpo", "orpo"):
        arms.train(arms.stage(kind, recording="sampled"))


def a_stage_from_before_there_was_a_recorder(arms: Arms) -> None:
    stage = arms.stage("orpo").id
    (arms.folder / stage / BATCHES).unlink()
    record = read_record(arms.folder / stage)
    assert record is not None
    assert isinstance(record.outcome, TrainOutcome)
    arms.change(stage, outcome=record.outcome.model_copy(update={"num_rows": None}))


def few_weights_changed(arms: Arms) -> None:
    stage = arms.stage("dpo").id
    record = read_record(arms.folder / stage)
    assert record is not None
    assert isinstance(record.outcome, TrainOutcome)
    arms.change(stage, outcome=record.outcome.model_copy(update={"changed_weights_share": 0.01}))


def bfloat16_weights_updated_in_bfloat16(arms: Arms) -> None:
    record = read_record(arms.folder / arms.stage("dpo").id)
    assert record is not None
    settings = record.stage.settings.model_copy(update={"master_weights": "none"})
    arms.change(record.stage.id, stage=record.stage.model_copy(update={"settings": settings}))


def a_machine_shared_with_others(arms: Arms) -> None:
    arms.change(arms.stage("dpo").id, cost=metered(contended=True, share=0.31))


def metered(*, contended: bool | Missing, share: float) -> Cost:
    return Cost(
        total_seconds=2,
        train_seconds=1,
        phases=[],
        peak_memory_bytes=1,
        peak_memory_kind="resident",
        peak_device_memory_bytes=Missing(reason="no GPU"),
        sample_seconds=0.1,
        contended=contended,
        other_processor_share=share,
    )
