"""Resumed equals uninterrupted, to the bit; a checkpoint that is not whole is never gone on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from pipelines.outcomes import TrainOutcome
from pipelines.stages import Limits, Stage
from pipelines.training import train as train_module
from pipelines.training.checkpoints import CHECKPOINTS, MANIFEST, newest_checkpoint
from pipelines.training.reference import compute_reference
from pipelines.training.train import LOGS, train
from tests.pipelines.training import tiny

Kill = Callable[[int | None], None]
EVERY_STEP = Limits(save_every_minutes=1e-9)


class Killed(BaseException):
    """Stands for a SIGKILL inside one process; `tests/end_to_end` sends real ones."""


class KillAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.on_optimizer_step(args, state, control)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """In the middle of the step after `self.step`: its gradients are there, its losses are not."""
        if state.global_step == self.step:
            raise Killed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Kill:
    return _killer(monkeypatch)


def _killer(patch: pytest.MonkeyPatch) -> Kill:
    """A function that sets the step in which trainers are killed from now on; None: in none."""
    make = train_module.make_trainer

    def set_step(step: int | None) -> None:
        def killed(*args: Any) -> Any:
            trainer = make(*args)
            if step is not None:
                trainer.add_callback(KillAt(step))
            return trainer

        patch.setattr(train_module, "make_trainer", killed)

    return set_step


def killed_at(root: Path, stage: Stage, step: int, kill_at: Kill) -> Path:
    """The folder of `stage` killed in the step after `step`, a checkpoint after every step."""
    folder = root / stage.id
    folder.mkdir(exist_ok=True)
    kill_at(step)
    with pytest.raises(Killed):
        train(stage.model_copy(update={"limits": EVERY_STEP}), folder, tiny.Silent())
    kill_at(None)
    return folder


@pytest.fixture(scope="module")
def once_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT with a checkpoint after each of its steps, killed in the fifth."""
    root = tmp_path_factory.mktemp("killed")
    tiny.make_inputs(root)
    with pytest.MonkeyPatch.context() as patch:
        return killed_at(root, tiny.stage("sft", num_train_epochs=2), 4, _killer(patch))


@pytest.fixture
def killed(once_killed: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(once_killed, tmp_path / once_killed.name))


def resumed(stage: Stage, folder: Path) -> TrainOutcome:
    return train(stage, folder, tiny.Silent())


def logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of every log, without what a clock measured."""
    found = {}
    for name in LOGS:
        if not (folder / name).is_file():  # no looks at validation pairs
            continue
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        found[name] = [
            {key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines
        ]
    return found


SHAPES: dict[str, dict[str, Any]] = {
    "sft": {"kind": "sft"},
    "sft-lora": {"kind": "sft", "tuning": "lora"},
    "sft-accumulated": {"kind": "sft", "micro_batch": 2},
    "orpo": {"kind": "orpo"},
    "orpo-lora": {"kind": "orpo", "tuning": "lora"},
    "orpo-accumulated": {"kind": "orpo", "micro_batch": 2},
    "orpo-step": {"kind": "orpo", "micro_batch": 2, "mean_over": "step"},
    "orpo-fused": {"kind": "orpo", "micro_batch": 2, "mean_over": "step", "implementation": "fused"},
    "dpo": {"kind": "dpo", "reference": "copy"},
    "dpo-step": {"kind": "dpo", "micro_batch": 2, "mean_over": "step"},
    "dpo-precomputed": {"kind": "dpo", "reference": "precomputed"},
    "dpo-lora": {"kind": "dpo", "tuning": "lora", "reference": "copy"},
    "dpo-adapter": {"kind": "dpo", "tuning": "lora", "reference": "adapter"},
    "dpo-accumulated": {"kind": "dpo", "tuning": "lora", "reference": "adapter", "micro_batch": 2},
}


QUICK = ("sft", "orpo", "orpo-fused", "dpo-accumulated")


@pytest.mark.parametrize(
    "shape", [shape if shape in QUICK else pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES]
)
def test_a_stage_killed_twice_ends_with_the_bits_of_one_that_ran_through(
    root: Path, shape: str, kill_at: Kill
) -> None:
    schedule = {"lr_scheduler_type": "cosine", "warmup_steps": 2, "num_train_epochs": 3}
    settings = dict(SHAPES[shape])
    if settings["kind"] == "dpo":
        sft = tiny.stage("sft", tuning=settings.get("tuning", "full"), num_train_epochs=1)
        train(sft, tiny.folder_of(root, sft), tiny.Silent())
        settings["policy"] = sft.id
    if settings.get("reference") == "precomputed":
        reference = tiny.reference_stage(sft.id)
        compute_reference(reference, tiny.folder_of(root, reference), tiny.Silent())
        settings["stored"] = reference.id
    stage = tiny.stage(settings.pop("kind"), **settings, **schedule)
    looks = {"eval_every": 0.25, "eval_pairs": 4, "select": "best_validation", "select_by": "chosen_nll"}
    stage = stage.model_copy(update={"settings": stage.settings.model_copy(update=looks)})
    through = train(stage, tiny.folder_of(root, stage, "through"), tiny.Silent())
    assert through.num_steps == 9
    killed_at(root, stage, 2, kill_at)  # in the middle of the first epoch
    folder = killed_at(root, stage, 6, kill_at)  # just after the second one's end
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint.manifest.step == 6
    assert resumed(stage, folder) == through
    assert logs(folder) == logs(root / "through")


def test_the_newest_two_checkpoints_are_kept(killed: Path) -> None:
    found = sorted(path.name for path in (killed / CHECKPOINTS).glob("checkpoint-*"))
    assert found == ["checkpoint-3", "checkpoint-4"]


def test_the_observer_gets_back_what_it_gave_with_the_checkpoint(root: Path, kill_at: Kill) -> None:
    stage = tiny.stage("sft")
    folder = killed_at(root, stage, 3, kill_at)
    observer = tiny.Silent()
    train(stage, folder, observer)
    assert observer.resumed == {"phases": ["load", "data", "train"]}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Any] = {
    "no random state": lambda path: (path / "rng_state.pth").unlink(),
    "no optimizer": lambda path: (path / "optimizer.pt").unlink(),
    "no schedule": lambda path: (path / "scheduler.pt").unlink(),
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "half a manifest": lambda path: truncate(path / MANIFEST),
    "cut weights": lambda path: truncate(path / "model.safetensors"),
    "a flipped bit in the optimizer": lambda path: flip_a_bit(path / "optimizer.pt"),
    "another count": lambda path: (path / MANIFEST).write_text(
        (path / MANIFEST).read_text().replace('"step": 4', '"step": 3')
    ),
    "a log without its last line": lambda path: truncate(path / "logs" / LOGS[0]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(killed: Path, damage: str) -> None:
    DAMAGES[damage](killed / CHECKPOINTS / "checkpoint-4")
    found = newest_checkpoint(killed)
    assert found is not None
    assert found.manifest.step == 3
    assert not (killed / CHECKPOINTS / "checkpoint-4").exists()


def test_with_every_checkpoint_damaged_training_starts_anew_and_ends_the_same(
    root: Path, kill_at: Kill
) -> None:
    stage = tiny.stage("orpo", num_train_epochs=2)
    through = train(stage, tiny.folder_of(root, stage, "through"), tiny.Silent())
    folder = killed_at(root, stage, 4, kill_at)
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        (path / "rng_state.pth").unlink()
    assert resumed(stage, folder) == through
    assert logs(folder) == logs(root / "through")


def test_a_manifest_that_lists_no_optimizer_is_not_trusted_though_every_hash_fits(
    killed: Path,
) -> None:
    newest = newest_checkpoint(killed)
    assert newest is not None
    without = {name: digest for name, digest in newest.manifest.files.items() if name != "optimizer.pt"}
    forged = newest.manifest.model_copy(update={"files": without}).sealed()
    (newest.path / MANIFEST).write_text(forged.model_dump_json())
    found = newest_checkpoint(killed)
    assert found is not None
    assert found.manifest.step == 3


def test_without_a_clock_no_checkpoint_is_made(root: Path) -> None:
    stage = tiny.stage("sft", num_train_epochs=1)
    folder = tiny.folder_of(root, stage)
    train(stage, folder, tiny.Silent())
    assert not list((folder / CHECKPOINTS).glob("checkpoint-*"))
