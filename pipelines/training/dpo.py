"""Direct preference optimization by TRL's `DPOTrainer`, with the reference model made explicit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl import DPOConfig, DPOTrainer

from pipelines.training.feed import dpo_rows
from pipelines.training.step_mean import Batch, Size, StepMean, stacked_size

if TYPE_CHECKING:
    from datasets import Dataset

    from pipelines.training.parts import Parts


class PretokenizedDPOTrainer(DPOTrainer):
    """`DPOTrainer` on ids that were made elsewhere: nothing is rendered, tokenized, truncated or dropped."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        """The pairs as they are: with a precomputed reference, its log-probs are among their columns."""
        return dataset


class StepMeanDPOTrainer(StepMean, PretokenizedDPOTrainer):
    """The same, its loss averaged over all pairs of an optimizer step."""

    def size_of(self, inputs: Batch) -> Size:  # noqa: D102
        return stacked_size(inputs)


def dpo_trainer(parts: Parts, arguments: dict[str, Any]) -> PretokenizedDPOTrainer:
    """A trainer whose reference is the model that the stage starts from.

    `copy`: `parts.reference_model`. `adapter`: TRL copies the adapter `default` to a frozen one named `ref`.
    `precomputed`: no model; the pairs bring their log-probs along.
    """
    precomputed = parts.settings.reference == "precomputed"
    trainer = StepMeanDPOTrainer if parts.settings.mean_over == "step" else PretokenizedDPOTrainer
    return trainer(
        model=parts.policy,
        ref_model=parts.reference_model,
        args=DPOConfig(**arguments, precompute_ref_log_probs=precomputed, disable_dropout=True),
        train_dataset=dpo_rows(parts.pairs),
        processing_class=parts.tokenizer,
    )
