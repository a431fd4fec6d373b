"""ORPO by TRL's `ORPOTrainer`. All that touches `trl.experimental` is in this file.

References:
    Hong et al. 2024, arXiv 2403.07691. TRL calls the paper's lambda `beta`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch.nn import functional
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from pipelines.training.feed import IGNORED, orpo_rows
from pipelines.training.step_mean import Batch, Size, StepMean, apart_size

if TYPE_CHECKING:
    from pipelines.stages import TrainSettings
    from pipelines.training.parts import Parts

NLL_FACTOR = "nll_factor"


class PretokenizedORPOTrainer(ORPOTrainer):
    """`ORPOTrainer` on ids that were made elsewhere: nothing is rendered, tokenized, truncated or added.

    Args:
        settings: Its `nll` and `nll_weight` are kept; with `prompt_and_completion` and 1 the loss is the stock one.
        stock: What `ORPOTrainer` takes.
    """

    def __init__(self, *, settings: TrainSettings, train_dataset: Dataset, **stock: Any) -> None:
        self.nll = settings.nll
        self.nll_weight = 1.0 if settings.nll_weight is None else settings.nll_weight
        # TRL 1.16 maps its dataset three times, which would write every row anew; the rows are ready as they are.
        super().__init__(train_dataset=Dataset.from_list([train_dataset[0]]), **stock)
        self.train_dataset = train_dataset

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:  # noqa: D102
        return {}

    def concatenated_forward(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Put the stage's negative log-likelihood in the stock one's place, fifth of the returned values."""
        chosen_logps, rejected_logps, chosen_logits, rejected_logits, nll, *rest = (
            super().concatenated_forward(model, batch)
        )
        if self.nll == "completion":
            labels = batch["chosen_labels"][:, 1:]  # (pairs, tokens - 1)
            nll = functional.cross_entropy(
                chosen_logits[:, : labels.shape[1]].flatten(0, 1), labels.flatten(), ignore_index=IGNORED
            )
        nll = nll * (self.nll_weight * batch.get(NLL_FACTOR, 1.0))
        return (chosen_logps, rejected_logps, chosen_logits, rejected_logits, nll, *rest)


class StepMeanORPOTrainer(StepMean, PretokenizedORPOTrainer):
    """The same, its odds-ratio loss averaged over all pairs of an optimizer step and its NLL over all tokens."""

    def size_of(self, inputs: Batch) -> Size:  # noqa: D102
        return apart_size(inputs, self.nll)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Size | None = None
    ) -> Any:
        """Make the NLL's share that of its tokens: `StepMean` weighs the whole loss by the share of the pairs."""
        if num_items_in_batch is not None:
            size, step = self.size_of(inputs), num_items_in_batch
            token_share = size.num_nll_tokens / step.num_nll_tokens
            inputs = {**inputs, NLL_FACTOR: token_share * (step.num_pairs / size.num_pairs)}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def orpo_trainer(parts: Parts, arguments: dict[str, Any]) -> PretokenizedORPOTrainer:
    """A trainer that sees the loader's ids and nothing else."""
    trainer = StepMeanORPOTrainer if parts.settings.mean_over == "step" else PretokenizedORPOTrainer
    return trainer(
        settings=parts.settings,
        model=parts.policy,
        args=ORPOConfig(**arguments, disable_dropout=True),
        train_dataset=orpo_rows(parts.pairs),
        processing_class=parts.tokenizer,
    )
