"""The model that a process keeps for the next evaluation: the same one only for the same weights, loaded the same way."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.evaluation.loaded import Loaded, model_of
from pipelines.stages import EvaluateSettings, ModelSettings, Stage, StageInputs
from tests.pipelines.training import tiny


def stage(group: str = "preference", **changes: Any) -> Stage:
    inputs = {"base": "base-000000000000", "data": "data-000000000000", "policy": None}
    settings = EvaluateSettings.model_validate(
        {"kind": "evaluate", "model": {"name": "toy"}, "dtype": "float32", "max_length": 32}
        | {"evaluation": {"group": group}}
        | {name: value for name, value in changes.items() if name in ("model", "dtype", "max_length")}
    )
    return Stage(
        id="evaluate-000000000000",
        settings=settings,
        inputs=StageInputs(**inputs | {name: value for name, value in changes.items() if name in inputs}),
        seed=0,
        threads=changes.get("threads", 1),
        device=changes.get("device", "cpu"),
    )


def test_another_group_on_the_same_model_does_not_load_it_again() -> None:
    loaded = Loaded()
    stages = (stage(), stage("generation"), stage(data="data-111111111111"))
    models = [loaded.model(one, lambda: cast("Any", object())) for one in stages]
    assert models[0] is models[1] is models[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "orpo-000000000000"},
        {"base": "pretrain-111111111111"},
        {"model": ModelSettings(name="toy", revision="main")},
        {"model": ModelSettings(name="toy", attn_implementation="eager")},
        {"model": ModelSettings(name="toy", trust_remote_code=True)},
        {"model": ModelSettings(name="toy", chat_template="{{ messages }}")},
        {"dtype": "bfloat16"},
        {"threads": 2},
        {"device": "cuda"},
    ],
)
def test_other_weights_or_another_way_to_load_them_are_loaded(changes: dict[str, Any]) -> None:
    loaded = Loaded()
    first = loaded.model(stage(), lambda: cast("Any", "first"))
    assert loaded.model(stage(**changes), lambda: cast("Any", "second")) == "second" != first


def test_a_training_stage_holds_nothing_for_another() -> None:
    assert model_of(tiny.stage("sft")) is None
