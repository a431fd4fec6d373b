"""ORPO without the logits: one forward pass for chosen and rejected, log-probs by `token_logprobs`.

Stands on stable interfaces alone (transformers' Trainer, TRL's collator for DPO); nothing here touches
`trl.experimental`. Shapes: b pairs, t tokens, h hidden; chosen and rejected are stacked to (2 b, t).

References:
    Hong et al. 2024, arXiv 2403.07691. As in TRL, the paper's lambda is called `beta`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peft import PeftModel
from torch import Tensor
from transformers import TrainingArguments
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pipelines.training.feed import dpo_rows
from pipelines.training.head import check_head, head_of, last_hidden_state
from pipelines.training.odds_ratio import odds_ratio_losses
from pipelines.training.step_mean import Batch, Size, StepMean, stacked_size
from pipelines.training.token_logprobs import token_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipelines.stages import TrainSettings
    from pipelines.training.parts import Parts


@dataclass
class FusedORPOConfig(TrainingArguments):
    """Arguments of an ORPO stage, for both implementations: TRL's ORPOConfig has the same ones with these defaults."""

    learning_rate: float = field(default=1e-6, metadata={"help": "Learning rate at its highest."})
    beta: float = field(default=0.1, metadata={"help": "Weight of the odds-ratio loss, the paper's lambda."})
    max_length: int | None = field(default=None, metadata={"help": "Always empty: the shared loader cuts."})


class FusedORPOTrainer(StepMean):
    """ORPO's loss, averaged over all pairs and tokens of an optimizer step.

    Args:
        settings: Its `nll` and `nll_weight` are kept.
        trainer: What transformers' `Trainer` takes.
    """

    def __init__(self, *, settings: TrainSettings, **trainer: Any) -> None:
        super().__init__(**trainer)
        self._nll = settings.nll
        self._nll_weight = 1.0 if settings.nll_weight is None else settings.nll_weight
        self._causal_lm = _without_adapter(self.model)
        self._noted: dict[str, Tensor] = {}

    def size_of(self, inputs: Batch) -> Size:  # noqa: D102
        return stacked_size(inputs, self._nll)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Size | None = None
    ) -> Any:
        """The micro-batch's part of the step's loss."""
        size = self.size_of(inputs)
        step = num_items_in_batch or size
        completion_bt = inputs["completion_mask"][:, 1:] == 1
        covered_bt = completion_bt if self._nll == "completion" else inputs["attention_mask"][:, 1:] == 1
        covered_bt = covered_bt[: size.num_pairs]
        needed_bt = completion_bt.clone()
        if self._nll_weight:
            needed_bt[: size.num_pairs] |= covered_bt
        logprobs_bt = self._logprobs(model, inputs, needed_bt)
        means_b = (logprobs_bt * completion_bt).sum(dim=1) / completion_bt.sum(dim=1)
        chosen_b, rejected_b = means_b.chunk(2)
        nll = -(logprobs_bt[: size.num_pairs] * covered_bt).sum() / step.num_nll_tokens
        odds_ratio = odds_ratio_losses(chosen_b, rejected_b).sum() / step.num_pairs
        self._note(nll=nll, odds_ratio=odds_ratio, margin=(chosen_b - rejected_b).sum() / step.num_pairs)
        loss = self._nll_weight * nll + self.args.beta * odds_ratio
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's values under the names that TRL's ORPOTrainer has."""
        if "loss" in logs and self._noted:
            logs["nll_loss"] = self._noted["nll"].item()
            logs["log_odds_ratio"] = -self._noted["odds_ratio"].item()
            logs["rewards/margins"] = self.args.beta * self._noted["margin"].item()
            self._noted.clear()
        super().log(logs, start_time)

    def _logprobs(self, model: Any, inputs: Batch, needed_bt: Tensor) -> Tensor:
        """Log-prob of each needed token given all before it, 0 elsewhere: (2 b, t - 1)."""
        with last_hidden_state(self._causal_lm) as kept:
            # The last place's logits only: its head is applied below, to the places that are needed.
            model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
                logits_to_keep=1,
            )
        hidden_nh = kept[0][:, :-1][needed_bt]
        with self.accelerator.autocast():
            logprobs_n = token_logprobs(
                hidden_nh, head_of(self._causal_lm), inputs["input_ids"][:, 1:][needed_bt]
            )
        return logprobs_n.new_zeros(needed_bt.shape).masked_scatter(needed_bt, logprobs_n)

    def _note(self, **values: Tensor) -> None:
        """Add up a step's values on the device; `log` reads them once a step."""
        for name, value in values.items():
            self._noted[name] = self._noted.get(name, 0.0) + value.detach()


def fused_orpo_trainer(parts: Parts, arguments: dict[str, Any]) -> FusedORPOTrainer:
    """A trainer that sees the loader's ids and nothing else.

    Raises:
        PipelineError: the model makes its logits in a way that is not known here.
    """
    check_head(_without_adapter(parts.policy))
    return FusedORPOTrainer(
        settings=parts.settings,
        model=parts.policy,
        args=FusedORPOConfig(**arguments),
        train_dataset=dpo_rows(parts.pairs),
        data_collator=DataCollatorForPreference(pad_token_id=parts.tokenizer.pad_token_id),
        processing_class=parts.tokenizer,
    )


def _without_adapter(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model
