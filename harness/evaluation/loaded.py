"""The model that a process has loaded, for all groups of evaluations on it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.stages import EvaluateSettings, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_of(stage: Stage) -> str | None:
    """What names the model that an evaluation stage loads, and how: equal where the loaded one serves; None for other stages."""
    settings = stage.settings
    if not isinstance(settings, EvaluateSettings):
        return None
    how = settings.model_dump_json(exclude={"evaluation"})
    return f"{stage.inputs.base} {stage.inputs.policy} {stage.device} {stage.threads} {how}"


class Loaded:
    """The model of the last evaluation in this process."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._model: PreTrainedModel | None = None

    def model(self, stage: Stage, load: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """The model of an evaluation stage, by `load` unless it is there already."""
        name = model_of(stage)
        if self._model is None or self._name != name:
            self._model = None  # two would not fit
            self._model, self._name = load(), name
        return self._model
