"""ORPO by TRL's `ORPOTrainer`. All that touches `trl.experimental` is in this file.

References:
    Hong et al. 2024, arXiv 2403.07691. TRL calls the paper's lambda `beta`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from pipelines.training.feed import IGNORED, orpo_rows

if TYPE_CHECKING:
    from pipelines.training.parts import Parts


class PretokenizedORPOTrainer(ORPOTrainer):
    """`ORPOTrainer` on ids that were made elsewhere: nothing is rendered, tokenized, truncated or added."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:  # noqa: D102
        return {}


class CompletionNllORPOTrainer(PretokenizedORPOTrainer):
    """The same, its negative log-likelihood taken over the chosen completion alone, as SFT has it."""

    def concatenated_forward(self, model: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """Replace the stock loss over prompt and completion (fifth of the returned values)."""
        chosen_logps, rejected_logps, chosen_logits, rejected_logits, _, *rest = super().concatenated_forward(
            model, batch
        )
        labels = batch["chosen_labels"][:, 1:]  # (pairs, tokens - 1)
        nll = functional.cross_entropy(
            chosen_logits[:, : labels.shape[1]].flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
        return (chosen_logps, rejected_logps, chosen_logits, rejected_logits, nll, *rest)


def orpo_trainer(parts: Parts, arguments: dict[str, Any]) -> PretokenizedORPOTrainer:
    """A trainer that sees the loader's ids and nothing else."""
    trainer = CompletionNllORPOTrainer if parts.settings.nll == "completion" else PretokenizedORPOTrainer
    return trainer(
        model=parts.policy,
        args=ORPOConfig(**arguments, disable_dropout=True),
        train_dataset=orpo_rows(parts.pairs),
        processing_class=parts.tokenizer,
    )
