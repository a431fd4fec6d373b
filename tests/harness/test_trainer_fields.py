"""TRL's arguments: the kept list is the installed one, and what the harness sets cannot be set twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.trainer_fields import CONFIG_CLASS, FIELDS, Trainer, objections
from pipelines.stages import LoraSettings, ModelSettings, Stage, TrainSettings


def test_the_kept_fields_are_those_of_the_installed_classes() -> None:
    from pipelines.training.write_fields import all_fields, as_text

    assert FIELDS.read_text(encoding="utf-8") == as_text(all_fields()), "run `make trainer-fields`"


@pytest.mark.parametrize("trainer", CONFIG_CLASS)
def test_what_every_trainer_is_given_cannot_be_set_by_a_config(trainer: Trainer) -> None:
    from pipelines.training.arguments import shared_arguments

    given = shared_arguments(_stage(trainer), Path("folder"))
    refused = {name for name, problem in objections(trainer, given) if "must not be set here" in problem}
    assert refused == given.keys() - {"report_to"}


@pytest.mark.parametrize("trainer", CONFIG_CLASS)
def test_usual_arguments_are_taken(trainer: Trainer) -> None:
    arguments: dict[str, Any] = {
        "learning_rate": 1e-5,
        "num_train_epochs": 1,
        "max_steps": -1,
        "optim": "adamw_torch",
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"num_cycles": 0.5},
        "report_to": ["tensorboard", "wandb"],
        "tf32": None,
    }
    assert list(objections(trainer, arguments)) == []


@pytest.mark.parametrize(
    ("value", "fits"),
    [(["sigmoid"], True), (["sigmoid", "sft"], True), ("sigmoid", False), ([1], False), ([], True)],
)
def test_lists_are_checked_entry_by_entry(value: Any, fits: bool) -> None:
    assert (list(objections("dpo", {"loss_type": value})) == []) is fits


def _stage(trainer: Trainer) -> Stage:
    settings = TrainSettings(
        kind=trainer,
        model=ModelSettings(name="toy"),
        tuning="full",
        lora=LoraSettings(),
        dtype="float32",
        effective_batch=2,
        micro_batch=1,
        max_length=8,
        gradient_checkpointing=False,
        nll="completion",
        arguments={},
    )
    return Stage(id=f"{trainer}-000000000000", settings=settings, seed=0, threads=1, device="cpu")
