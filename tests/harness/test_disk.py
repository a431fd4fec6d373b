"""A run is refused where its results cannot fit, with both figures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.disk import DiskCheck, bytes_needed
from harness.errors import UserError
from harness.forecast.history import FORECAST
from harness.planning import make_plan
from harness.records import write_json
from harness.reuse import work_left
from tests.harness.fixtures_results import Run
from tests.harness.forecast.made_up import forecast, stage

NUM_PARAMETERS = 7 * 11 + 5


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {"a": torch.zeros(7, 11, dtype=torch.bfloat16), "b": torch.zeros(5)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def needed(model: Path, **changes: object) -> int | None:
    plan = make_plan(Run(changes={"model": {"name": str(model)}, **changes}).comparison())
    folder = model.parent / "results"
    return bytes_needed(plan, work_left(plan, folder).todo, folder)


@pytest.mark.parametrize(
    ("keep", "models"),
    [("all", 3 * 3 + 2), ("final", 3 * 2 + 2), ("best", 3 * 2 + 2), ("none", 2)],
)
def test_full_training_needs_every_kept_model_and_two_at_work(model: Path, keep: str, models: int) -> None:
    assert needed(model, keep_weights=keep, save_every_minutes=None) == models * NUM_PARAMETERS * 4


def test_checkpoints_hold_weights_and_two_moments_and_two_are_there_at_once(model: Path) -> None:
    without = needed(model, save_every_minutes=None)
    with_them = needed(model, save_every_minutes=10)
    assert without is not None
    assert with_them == without + 2 * NUM_PARAMETERS * (4 + 8)


def test_the_best_so_far_is_held_once_and_in_each_checkpoint(model: Path) -> None:
    shape = {"effective_batch": 16, "micro_batch": 8, "max_length": 128}
    best = shape | {"select": "best_validation"}
    for minutes, copies in ((None, 1), (10, 3)):
        last = needed(model, save_every_minutes=minutes, training=shape)
        assert last is not None
        assert needed(model, save_every_minutes=minutes, training=best) == last + copies * NUM_PARAMETERS * 4


def test_each_stage_at_a_time_has_its_own_work_on_the_disk(model: Path) -> None:
    together = {"workers": 3, "metering": "relaxed"}
    for minutes in (None, 10):
        one = needed(model, keep_weights="none", save_every_minutes=minutes)
        assert one is not None
        assert needed(model, keep_weights="none", save_every_minutes=minutes, **together) == 3 * one


def test_bfloat16_takes_half(model: Path) -> None:
    training = {"dtype": "bfloat16", "master_weights": "none", "effective_batch": 8, "micro_batch": 8}
    plain = needed(model, save_every_minutes=None)
    assert plain == 2 * (needed(model, training=training, save_every_minutes=None) or 0)


def test_a_model_of_the_hub_is_not_known_before_it_is_here() -> None:
    plan = make_plan(Run(changes={"model": {"name": "someone/some-model"}}).comparison())
    nowhere = Path("nowhere")
    assert bytes_needed(plan, work_left(plan, nowhere).todo, nowhere) is None


def test_a_model_of_the_hub_that_was_fetched_is_known_by_its_files(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / "models--someone--some-model"
    shutil.copytree(model, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert needed(Path("someone/some-model")) == needed(model)


@pytest.mark.parametrize("training", [{}, {"dtype": "bfloat16", "master_weights": "none"}])
def test_a_model_that_is_not_here_is_known_by_the_forecast_of_its_stages(
    model: Path, tmp_path: Path, training: dict[str, str]
) -> None:
    shape = {"effective_batch": 8, "micro_batch": 8} | training
    absent = make_plan(Run(changes={"model": {"name": "some/one"}, "training": shape}).comparison())
    made = forecast(absent)
    size = 2 if training else 4
    stages = [stage().model_copy(update={"disk_bytes": NUM_PARAMETERS * size})]
    for arm in made.arms.values():
        arm.stages[:] = stages
    write_json(tmp_path / FORECAST, made.model_dump(mode="json", by_alias=True))
    todo = work_left(absent, tmp_path).todo
    assert bytes_needed(absent, todo, tmp_path) == needed(model, training=shape)
    with pytest.raises(UserError, match="must have"):
        DiskCheck(tmp_path, free_bytes=100).require(absent, todo)


def test_a_forecast_of_other_stages_tells_nothing(tmp_path: Path) -> None:
    plan, other = (
        make_plan(Run(changes={"model": {"name": name}}).comparison()) for name in ("some/one", "some/other")
    )
    write_json(tmp_path / FORECAST, forecast(other).model_dump(mode="json", by_alias=True))
    assert bytes_needed(plan, work_left(plan, tmp_path).todo, tmp_path) is None


def test_what_a_run_has_written_itself_is_not_held_against_it(model: Path) -> None:
    plan = make_plan(Run(changes={"model": {"name": str(model)}}).comparison())
    todo = work_left(plan, model.parent).todo
    enough = bytes_needed(plan, todo, model.parent)
    assert enough is not None
    disk = DiskCheck(model.parent, free_bytes=enough)
    disk.require(plan, todo)
    disk._free = 0
    disk.require(plan, todo)


def test_too_little_space_is_one_line_with_both_figures(model: Path) -> None:
    plan = make_plan(Run(changes={"model": {"name": str(model)}}).comparison())
    folder = model.parent
    todo = work_left(plan, folder).todo
    with pytest.raises(UserError, match=r"must have \S+ MiB free for the \d+ stages.*, has \S+ MiB"):
        DiskCheck(folder, free_bytes=100).require(plan, todo)
    DiskCheck(folder, free_bytes=2**40).require(plan, todo)
    DiskCheck(folder).require(plan, todo)
    assert shutil.disk_usage(folder).free > 2**20


def test_evaluations_alone_need_no_space_worth_asking_for(model: Path) -> None:
    plan = make_plan(Run(changes={"model": {"name": str(model)}}).comparison())
    evaluations = [stage for stage in plan.stages if stage.kind == "evaluate"]
    DiskCheck(model.parent, free_bytes=0).require(plan, evaluations)
