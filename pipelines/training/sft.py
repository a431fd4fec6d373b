"""Supervised fine-tuning on prompt + chosen by TRL's `SFTTrainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl import SFTConfig, SFTTrainer

from pipelines.training.feed import sft_rows

if TYPE_CHECKING:
    from pipelines.training.parts import Parts


def sft_trainer(parts: Parts, arguments: dict[str, Any]) -> SFTTrainer:
    """A trainer that sees the loader's ids and nothing else: TRL's own preparation is skipped."""
    return SFTTrainer(
        model=parts.policy,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, packing=False),
        train_dataset=sft_rows(parts.pairs, parts.settings.nll),
        processing_class=parts.tokenizer,
    )
