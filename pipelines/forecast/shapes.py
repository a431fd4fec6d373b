"""The shape of a model by its name: from its folder, else from `configs/models`. Reads no weights and no network."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from pipelines.errors import PipelineError
from pipelines.locations import model_location
from pipelines.stages import ModelSettings
from pipelines.toy.pretrain import base_config
from pipelines.toy.tokenizer import make_tokenizer

TOY = "toy"


def shape_of(model: ModelSettings) -> PretrainedConfig:
    """The model's config.

    Raises:
        PipelineError: it is neither on this machine nor among the shapes that come with this program.
    """
    if model.name == TOY:
        return base_config(make_tokenizer())
    known = known_shapes().get(model.name.lower())
    if known is not None:
        return AutoConfig.for_model(**known)
    arguments = {"gguf_file": model.gguf_file} if model.gguf_file else {}
    try:
        config = AutoConfig.from_pretrained(
            model_location(model.name),
            revision=model.revision or "main",
            trust_remote_code=model.trust_remote_code,
            local_files_only=True,
            **arguments,
        )
    except (OSError, ValueError) as error:
        names = ", ".join(sorted(content["names"][0] for content in _files()))
        raise PipelineError(
            f"model.name: the shape of {model.name!r} is not on this machine. Download its config.json into a folder "
            f"and name the folder, or take one of the shapes that come with prefduel: {names}."
        ) from error
    return config.get_text_config()


@cache
def known_shapes() -> dict[str, dict[str, Any]]:
    """Lower-case hub id to the arguments of its config class."""
    return {name.lower(): content["shape"] for content in _files() for name in content["names"]}


@cache
def _files() -> tuple[dict[str, Any], ...]:
    return tuple(
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(shapes_folder().glob("*.json"))
    )


def shapes_folder() -> Path:
    """`configs/models` of a source tree; a wheel carries it as `pipelines/forecast/models`."""
    here = Path(__file__).resolve().parent
    installed = here / "models"
    return installed if installed.is_dir() else here.parent.parent / "configs" / "models"
