"""The same effective batch means the same update, however it is cut into micro-batches. The one place for it.

Left alone (TRL 1.16, transformers 5.23), DPO and ORPO take a mean over each micro-batch and the Trainer a mean of these
means: pairs of a smaller, last micro-batch weigh more, and so do the tokens of a micro-batch with short replies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer

from pipelines.training.feed import IGNORED

if TYPE_CHECKING:
    from pipelines.stages import Nll

Batch = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What losses are averaged over, in a micro-batch or in all micro-batches of one optimizer step.

    Attributes:
        num_pairs: Pairs.
        num_nll_tokens: Tokens of the chosen sequences that the negative log-likelihood covers, a scalar; on the
            batches' device, since reading it would stall a GPU.
    """

    num_pairs: int
    num_nll_tokens: Tensor


class StepMean(Trainer):
    """To be mixed into a trainer whose `compute_loss` gives the mean over its micro-batch's pairs.

    It weighs each micro-batch by its share of the step's pairs. The step's size takes the way that the Trainer has for
    such numbers (`num_items_in_batch`), so nothing has to be kept between calls or in a checkpoint.
    """

    # transformers shall not divide by the number of micro-batches: the shares add up to 1.
    loss_is_scaled_for_ga = True

    def size_of(self, inputs: Batch) -> Size:
        """The size of one micro-batch as the trainer's collator made it."""
        raise NotImplementedError

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Size | None]:
        """The micro-batches of one optimizer step, and their size together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        sizes = [self.size_of(batch) for batch in batches]
        if not sizes:
            return batches, None
        tokens = torch.stack([size.num_nll_tokens for size in sizes]).sum()
        return batches, Size(sum(size.num_pairs for size in sizes), tokens.to(device))

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Size | None = None
    ) -> Any:
        """The micro-batch's part of the step's mean; its own mean outside of training."""
        loss = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None:
            return loss
        return loss * (self.size_of(inputs).num_pairs / num_items_in_batch.num_pairs)


def stacked_size(inputs: Batch, nll: Nll = "completion") -> Size:
    """Of a batch of `DataCollatorForPreference`: chosen and rejected stacked, (2 pairs, tokens).

    A sequence's first token is predicted by nothing and so is never covered.
    """
    mask = inputs["completion_mask" if nll == "completion" else "attention_mask"]
    num_pairs = len(mask) // 2
    return Size(num_pairs, (mask[:num_pairs, 1:] == 1).sum())


def apart_size(inputs: Batch, nll: Nll) -> Size:
    """Of a batch of ORPOTrainer's collator: chosen and rejected apart, (pairs, tokens) each."""
    labels = inputs["chosen_labels"]
    covered = labels != IGNORED if nll == "completion" else inputs["chosen_attention_mask"] == 1
    return Size(len(labels), covered[:, 1:].sum())
