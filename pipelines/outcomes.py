"""What each kind of stage did, as its record keeps it. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.evaluations import Split
from pipelines.strict import Count, Quantity, Strict


class SplitCount(Strict):
    """Size of one split after filtering."""

    num_pairs: int
    num_prompt_tokens: int
    num_chosen_tokens: int
    num_rejected_tokens: int


class DroppedRows(Strict):
    """Rows that could not serve, for one reason."""

    reason: str
    num_rows: int
    first_rows: list[int] = Field(description="Up to 10 row numbers, counted from 0 as in the source.")


class DataOutcome(Strict):
    """What the shared loader made of a source."""

    kind: Literal["data"] = "data"
    form: str
    num_rows: int
    dropped: list[DroppedRows]
    num_truncated: int = Field(0, description="Pairs whose prompt was cut to fit the window.")
    num_system_merged: int = Field(
        0,
        description="Pairs whose system text was put before the first user turn's, because the chat template has no "
        "system role.",
    )
    splits: dict[Split, SplitCount]
    content_hash: str = Field(
        description="Hash over the line of hashes of every pair of every split, in order."
    )
    chat_template_source: Literal["tokenizer", "config", "default"]
    adds_bos: bool
    end_of_turn_ids: list[int] = Field(description="Token ids at which a reply ends; generation stops there.")
    pad_token_id: int


class TensorBytes(Strict):
    """Bytes of the tensors that a training stage holds all along, counted exactly. Activations come on top."""

    weights: Count = Field(description="Of the policy, without adapters.")
    adapter: Count = Field(
        description="Of the policy's adapters, a frozen one that serves as reference included."
    )
    reference: Count = Field(description="Of a second model that serves as reference.")
    gradients: Count = Field(description="From the backward pass to the optimizer's step.")
    optimizer: Count = Field(description="The optimizer's states.")


class Work(Strict):
    """What a stage computed."""

    operations: Quantity | None = Field(
        description="Floating-point operations by the model's formula, without padding and recomputation."
    )
    reason: str | None = Field(None, description="Why the formula is not this model's.")


class TrainOutcome(Strict):
    """What one training stage did."""

    kind: Literal["train"] = "train"
    num_steps: Count = Field(description="Optimizer steps.")
    num_pairs_seen: Count = Field(description="Pairs through the policy, epochs counted.")
    num_policy_tokens: Count = Field(
        description="Tokens through the policy's forward passes, padding not counted."
    )
    num_reference_tokens: Count = Field(description="Tokens through the reference model's forward passes.")
    num_parameters: Count
    num_trainable_parameters: Count
    first_loss: float | None
    final_loss: float | None
    effective_arguments: dict[str, Any] = Field(
        description="TRL's arguments as the trainer had them, paths left out."
    )
    weights_hash: str = Field(description="SHA-256 of the saved weights file(s).")
    changed_weights_share: float | None = Field(
        None,
        description="Share of the trained weights that have another value than at the stage's start; of large models by "
        "a sample of about a million.",
    )
    selected_step: Count | None = Field(
        None,
        description="Optimizer steps after which the weights that are left were the stage's; null: the last.",
    )
    num_planned_steps: Count | None = Field(None, description="Optimizer steps at which the schedule ends.")
    num_rows: Count | None = Field(None, description="Rows of the trainer's own dataset.")
    base_hash: str | None = Field(
        None, description="Hash of the weights under any adapter; null where the stage starts from another's."
    )
    start_probe: list[float] | None = Field(
        None, description="Log-probs of a few chosen replies before training."
    )
    final_probe: list[float] | None = Field(None, description="The same after training.")
    reference_probe: list[float] | None = Field(None, description="The same of DPO's reference.")
    tensor_bytes: TensorBytes | None = Field(None, description="What it held in memory all along.")
    work: Work | None = Field(None, description="Policy and reference together.")


class ReferenceOutcome(Strict):
    """What computing the reference log-probs did."""

    kind: Literal["reference"] = "reference"
    num_pairs: Count
    num_reference_tokens: Count = Field(
        description="Tokens through the reference model's forward passes, padding not counted."
    )
    weights_hash: str | None = Field(
        None,
        description="SHA-256 of the weights file(s) of the stage whose model it was; null where no stage made them.",
    )
    probe: list[float] | None = Field(
        None, description="Log-probs of a few chosen replies, as training stages record them."
    )
    work: Work | None = None


class CalibrateOutcome(Strict):
    """How long a training stage's steps take."""

    kind: Literal["calibrate"] = "calibrate"
    step_seconds: list[float] = Field(
        description="Of each optimizer step after the first, from the end of the step before it."
    )
    start_seconds: float = Field(
        description="What the training loop takes beside its steps: until the first step ends less one step, and after the last."
    )


class PretrainOutcome(Strict):
    """What pre-training the toy base, or converting a GGUF file, did."""

    kind: Literal["base"] = "base"
    num_parameters: int
    num_steps: int
    num_tokens: int
    final_loss: float | None
    weights_hash: str


class RewardOutcome(Strict):
    """What training the toy world's reward model did."""

    kind: Literal["reward"] = "reward"
    num_parameters: int
    num_steps: int
    num_pairs: int = Field(description="Training pairs, each seen once an epoch.")
    final_loss: float
    validation_accuracy: float | None = Field(
        description="Share of validation pairs whose chosen reply has the higher score; null without any."
    )
    weights_hash: str


class EvaluateOutcome(Strict):
    """Means over the items of `items.jsonl`, one for each metric that this evaluation measures."""

    kind: Literal["evaluate"] = "evaluate"
    group: Literal["preference", "generation", "benchmarks", "drift", "judge"]
    means: dict[str, float] = Field(description="Metric name to mean over its items.")
    num_items: dict[str, int] = Field(description="Metric name to number of items behind its mean.")
    num_judge_tokens: int | None = Field(
        None,
        description="Of a judge that pays for tokens: those of this stage; answers that were kept cost none.",
    )


Outcome = Annotated[
    DataOutcome
    | TrainOutcome
    | ReferenceOutcome
    | CalibrateOutcome
    | PretrainOutcome
    | RewardOutcome
    | EvaluateOutcome,
    Field(discriminator="kind"),
]
