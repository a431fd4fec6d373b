"""What every trainer is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipelines.stages import TrainSettings


@dataclass(frozen=True)
class Parts:
    """A training stage's loaded parts.

    Attributes:
        settings: What the stage is told to do.
        policy: The model that is trained, with its adapter where it has one.
        reference_model: DPO with `reference: copy`: a second model, never trained.
        tokenizer: The shared loader's.
        pairs: The shared loader's training pairs.
    """

    settings: TrainSettings
    policy: PreTrainedModel
    reference_model: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    pairs: Dataset
