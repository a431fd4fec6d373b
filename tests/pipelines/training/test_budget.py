"""Where a stage with a token budget ends, and how a stage's steps are timed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.stages import CalibrateSettings, Stage, StageInputs
from pipelines.training.budget import SPENT, steps_within
from pipelines.training.calibrate import StepClock, calibrate
from pipelines.training.train import train
from tests.pipelines.training import tiny

SHAPE = {"micro_batch": 2, "effective_batch": 4, "num_train_epochs": 1, "lr_scheduler_type": "linear"}


@pytest.mark.parametrize(
    ("tokens", "steps"), [(10, 1), (1, 1), (14, 1), (15, 1), (16, 2), (30, 3), (34, 3), (36, 4), (99, 9)]
)
def test_a_stage_ends_at_the_step_nearest_to_its_budget(tokens: int, steps: int) -> None:
    # 10, 20, 30, then 41, 52, ...
    assert steps_within(tokens, iter([10, 10, 10, *[11] * 9])) == steps


def with_budget(stage: Stage, tokens: int) -> Stage:
    return stage.model_copy(update={"settings": stage.settings.model_copy(update={"max_tokens": tokens})})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    tiny.make_inputs(folder, rows=tiny.pairs(10))
    return folder


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_steps_follow_from_the_order_in_which_the_pairs_will_come(root: Path, kind: str) -> None:
    # An epoch is 3 steps of 4, 4 and 2 pairs, so 4 steps end within the second epoch.
    plain = train(
        made := tiny.stage(kind, **SHAPE, max_steps=4), tiny.folder_of(root, made, f"{kind}-4"), tiny.Silent()
    )
    held = train(
        with_budget(tiny.stage(kind, **SHAPE), plain.num_policy_tokens),
        tiny.folder_of(root, made, f"{kind}-held"),
        tiny.Silent(),
    )
    assert (held.num_steps, held.num_planned_steps) == (4, 4)
    assert held.num_policy_tokens == plain.num_policy_tokens
    assert held.weights_hash == plain.weights_hash  # the schedule, too, ends there


def test_a_later_stage_gets_what_those_before_it_left(root: Path) -> None:
    sft = train(
        made := with_budget(tiny.stage("sft", **SHAPE), 60), tiny.folder_of(root, made), tiny.Silent()
    )
    assert json.loads((root / tiny.SFT / SPENT).read_text()) == {"policy_tokens": sft.num_policy_tokens}
    dpo = tiny.stage("dpo", policy=tiny.SFT, **SHAPE)
    one = train(
        dpo.model_copy(
            update={
                "settings": dpo.settings.model_copy(
                    update={"arguments": dpo.settings.arguments | {"max_steps": 2}}
                )
            }
        ),
        tiny.folder_of(root, dpo, "after-2"),
        tiny.Silent(),
    )
    total = sft.num_policy_tokens + one.num_policy_tokens
    held = train(with_budget(dpo, total), tiny.folder_of(root, dpo, "after-held"), tiny.Silent())
    assert (held.num_steps, held.num_policy_tokens) == (2, one.num_policy_tokens)
    assert json.loads((root / "after-held" / SPENT).read_text()) == {"policy_tokens": total}


def test_a_calibration_times_its_steps_and_keeps_nothing_that_it_trained(root: Path) -> None:
    settings = CalibrateSettings(kind="calibrate", stage=tiny.stage("dpo", **SHAPE).settings, num_steps=5)
    stage = Stage(
        id="calibrate-000000000000",
        settings=settings,
        inputs=StageInputs(base=tiny.BASE, data=tiny.DATA),
        seed=0,
        threads=1,
        device="cpu",
    )
    observer = tiny.Silent()
    outcome = calibrate(stage, folder := tiny.folder_of(root, stage), observer)
    assert len(outcome.step_seconds) == 4
    assert min(outcome.step_seconds) > 0
    assert outcome.start_seconds >= 0
    assert observer.phases == ["load", "data", "train", "save"]
    assert not [path.name for path in folder.iterdir() if path.name not in ("checkpoints",)]


def test_a_clock_tells_the_start_from_the_steps() -> None:
    times: Iterator[float] = iter([100.0, 107.0, 109.0, 111.0, 115.0])
    clock = StepClock(tiny.Silent(), now=lambda: next(times))
    with clock.phase("load"):
        clock.progress(1, 1)
    with clock.phase("train"):
        for step in range(3):
            clock.progress(step + 1, 3)
    assert (clock.began, clock.ends, clock.over) == (100.0, [107.0, 109.0, 111.0], 115.0)
