"""TRL's arguments as the harness sets them: the same shape, seed and precision in every trainer."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from pipelines.stages import Stage, TrainSettings

# Names of this machine or run; `max_length`, which is the loader's (the trainers are told to cut nothing); and two that
# the trainers set themselves and that change no number.
LEFT_OUT = (
    "output_dir",
    "logging_dir",
    "run_name",
    "hub_model_id",
    "max_length",
    "debug",
    "pad_to_multiple_of",
)


def shared_arguments(stage: Stage, folder: Path) -> dict[str, Any]:
    """Arguments of the trainer's config class that follow from the stage, the user's own on top.

    Args:
        stage: A training stage.
        folder: Its folder; checkpoints go below it.
    """
    settings = stage.settings
    assert isinstance(settings, TrainSettings)
    return {
        "report_to": "none",
        **settings.arguments,
        "output_dir": str(folder / "checkpoints"),
        "seed": stage.seed,
        # Without it a stray `torch.manual_seed` changes the order of the pairs (TRL 1.16).
        "data_seed": stage.seed,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.effective_batch // settings.micro_batch,
        # Both default to True in TRL 1.16, bf16 even on a CPU.
        "bf16": settings.dtype == "bfloat16",
        # The new name of `gradient_checkpointing` in transformers 5.23, which mirrors it to the old one.
        "activation_checkpointing": settings.gradient_checkpointing,
        # transformers would otherwise log a NaN loss as 0.0.
        "logging_nan_inf_filter": False,
        "logging_steps": 1,
        # Checkpoints are made on a clock (checkpoints.py), whole, and gone on from at the same pair.
        "save_strategy": "no",
        "save_only_model": False,
        "save_total_limit": None,
        "ignore_data_skip": False,
        "eval_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": stage.device == "cpu",
        "max_length": None,
        # Ids go through the collator into the model; nothing else is in the columns.
        "remove_unused_columns": False,
    }


def effective_arguments(arguments: Any) -> dict[str, Any]:
    """The trainer's arguments as it had them, where they differ from its class' defaults; paths left out.

    Args:
        arguments: An instance of a TRL config class.
    """
    return {
        field.name: value
        for field in fields(arguments)
        if (value := getattr(arguments, field.name)) != _default(field)
        and not field.name.endswith("_token")
        and field.name not in LEFT_OUT
        and _is_plain(value)
    }


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)
