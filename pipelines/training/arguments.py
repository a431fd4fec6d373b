"""TRL's arguments as the harness sets them: the same shape, seed and precision in every trainer."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from pipelines.stages import Stage, TrainSettings

# Set here for every trainer, so a config may not set them (harness/trainer_fields.py says what to set instead).
PATHS_AND_NOISE = ("output_dir", "logging_dir", "run_name", "hub_token", "push_to_hub_token", "hub_model_id")


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
        "save_strategy": "no",
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
    defaults = {field.name: field.default for field in fields(arguments)}
    return {
        name: value
        for name, value in arguments.to_dict().items()
        if name not in PATHS_AND_NOISE and value != defaults.get(name) and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)
