"""What one stage is: the content of a `stage.json`, shared by both packages. Imports no torch.

A stage is the unit that runs, is metered, cached and resumed. Its folder is named by its id; its inputs are
the ids of other stages, whose folders lie beside its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from pipelines.evaluations import Evaluation
from pipelines.judge_settings import Judge
from pipelines.strict import LARGEST_VALUE as LARGEST_VALUE
from pipelines.strict import Count as Count
from pipelines.strict import Quantity as Quantity
from pipelines.strict import Strict as Strict

SCHEMA_VERSION = 1

Dtype = Literal["float32", "bfloat16"]
Tuning = Literal["full", "lora", "qlora"]
Reference = Literal["copy", "adapter", "precomputed"]
Implementation = Literal["trl", "fused"]
Nll = Literal["prompt_and_completion", "completion"]
MeanOver = Literal["step", "micro_batch"]
MasterWeights = Literal["fp32", "none"]
Recording = Literal["full", "sampled"]
Select = Literal["last", "best_validation"]
ValidationMetric = Literal["preference_accuracy", "preference_margin", "chosen_nll"]
RowForm = Literal["auto", "prompt", "messages", "implicit", "orca", "sharegpt"]
Phase = Literal["load", "data", "reference", "train", "validate", "evaluate", "save"]


class ModelSettings(Strict):
    """Where the base weights and the tokenizer come from."""

    name: str = Field(
        description="A hub id, a local folder, `package:NAME` (a folder inside an installed Python package) or `toy`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")
    gguf_file: str | None = Field(
        None, description="A GGUF file inside `name`; it is converted once to safetensors."
    )
    attn_implementation: str | None = Field(
        None, description="Passed to `from_pretrained`; transformers chooses if empty."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    chat_template: str | None = Field(
        None,
        description="A Jinja chat template for a tokenizer that has none (a tokenizer's own is kept). The default "
        "adds no tokens to the vocabulary and ends each turn with the tokenizer's EOS.",
    )


class DataSettings(Strict):
    """Which preference pairs are used, how they are read and how they are split."""

    path: str = Field(
        description="A hub id, a local .json, .jsonl, .parquet or .csv file (also .gz), a `save_to_disk` folder or `toy`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub dataset.")
    subset: str | None = Field(None, description="Configuration name of a hub dataset.")
    split: str = Field(
        "train", description="Split of a hub dataset or of a saved DatasetDict to read pairs from."
    )
    form: RowForm = Field("auto", description="How a row holds its pair; `auto` finds out from the columns.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Renames columns before the form is found: `our name: name in the data`.",
    )
    num_pairs: int | None = Field(None, ge=3, description="`toy` only: how many pairs are generated.")
    max_train_pairs: int | None = Field(
        None, ge=1, description="Use at most so many training pairs (chosen by hash)."
    )
    max_validation_pairs: int | None = Field(None, ge=1, description="Use at most so many validation pairs.")
    max_test_pairs: int | None = Field(None, ge=1, description="Use at most so many test pairs.")
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the prompts held out for validation."
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="Share of the prompts held out for the verdict.")
    truncation: Literal["drop", "keep_start", "keep_end"] = Field(
        "drop",
        description="A pair longer than `training.max_length` is dropped, or its prompt is cut so that both replies "
        "fit, keeping the prompt's start or its end. A reply is never cut.",
    )
    max_dropped: float = Field(
        0.1, ge=0, le=1, description="Largest share of rows that may be dropped before the run stops."
    )


class LoraSettings(Strict):
    """The adapter of `tuning: lora` and `qlora`."""

    r: int = Field(16, ge=1, description="Rank of the update.")
    alpha: int = Field(32, ge=1, description="Scale of the update is alpha / r.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="LoRA dropout. Must be 0: DPO and ORPO trainers would switch it off, SFT would not.",
    )
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Modules that get an adapter."
    )


class TrainSettings(Strict):
    """One training stage: which trainer, in which shape, with which of TRL's own arguments."""

    kind: Literal["sft", "dpo", "orpo"]
    model: ModelSettings
    tuning: Tuning
    lora: LoraSettings
    dtype: Dtype
    master_weights: MasterWeights | None = Field(
        None,
        description="bfloat16 in full only: whether the weights are kept and updated in float32; else empty.",
    )
    effective_batch: int = Field(description="Pairs per optimizer step.")
    micro_batch: int = Field(description="Pairs per forward pass; divides `effective_batch`.")
    max_length: int = Field(description="Tokens of prompt and reply together.")
    gradient_checkpointing: bool
    reference: Reference | None = Field(None, description="DPO only: how the reference model is held.")
    implementation: Implementation | None = Field(
        None, description="ORPO only: which implementation computes the loss."
    )
    nll: Nll = Field(description="SFT and ORPO: which tokens the negative log-likelihood covers.")
    nll_weight: float | None = Field(
        None, description="ORPO only: factor of the negative log-likelihood; 1 where empty."
    )
    mean_over: MeanOver | None = Field(
        None,
        description="DPO and ORPO: whether losses are averaged over all pairs of an optimizer step, or over each "
        "micro-batch, as TRL ships them (also where empty). SFT averages over the step's tokens.",
    )
    recording: Recording = Field(
        "full",
        description="Which micro-batches are noted in `batches.jsonl`: all, or those of every 16th step.",
    )
    eval_every: float | None = Field(
        None, description="Share of the steps between two looks at validation pairs; none where empty."
    )
    eval_pairs: int = Field(64, description="Pairs of the validation and of the train split at each look.")
    eval_test: bool = Field(False, description="Whether looks see as many pairs of the test split, too.")
    select: Select = Field("last", description="Which weights the stage leaves.")
    select_by: ValidationMetric = Field("preference_accuracy", description="What the best is the best by.")
    share: float | None = Field(
        None, description="SFT only: the share of the training pairs that it trains on; all where empty."
    )
    max_tokens: int | None = Field(
        None,
        description="`budget.match: tokens`: the stage ends at the step at which the policies of its arm have read about "
        "so many tokens, in this stage and those before it.",
    )
    arguments: dict[str, Any] = Field(description="TRL's own arguments of this trainer.")

    @property
    def weights_dtype(self) -> Dtype:
        """Number format in which the weights are held and updated."""
        return "float32" if self.master_weights == "fp32" else self.dtype


class ReferenceSettings(Strict):
    """Log-probs of the policy that a DPO stage starts from, on the training pairs: what `reference: precomputed` reads."""

    kind: Literal["reference"]
    model: ModelSettings
    tuning: Tuning
    lora: LoraSettings
    dtype: Dtype
    master_weights: MasterWeights | None = Field(None, description="As of the DPO stage.")
    micro_batch: int = Field(description="Pairs per forward pass.")
    max_length: int = Field(description="Tokens of prompt and reply together.")
    arguments: dict[str, Any] = Field(description="Those of TRL's DPO arguments that change the log-probs.")


class CalibrateSettings(Strict):
    """A few steps of a training stage from the base model, timed: what `budget.match: seconds` converts by."""

    kind: Literal["calibrate"]
    stage: TrainSettings = Field(description="The stage; nothing of what it trains is kept.")
    num_steps: int = Field(description="Optimizer steps.")

    @property
    def model(self) -> ModelSettings:
        """The stage's."""
        return self.stage.model


class PretrainSettings(Strict):
    """The toy world's base model, pre-trained from nothing."""

    kind: Literal["pretrain"]
    documents: int = Field(9000, ge=16, description="Documents of the pre-training corpus.")


class ConvertSettings(Strict):
    """A GGUF file turned into safetensors once."""

    kind: Literal["convert"]
    model: ModelSettings
    dtype: Dtype


class PrepareSettings(Strict):
    """The shared loader's work: read, render, tokenize, filter, split."""

    kind: Literal["data"]
    model: ModelSettings
    data: DataSettings
    max_length: int
    demonstrations: bool = Field(
        False,
        description="What SFT alone trains on: no rejected replies, and no prompt that the data's own stage holds out.",
    )


class EvaluateSettings(Strict):
    """One group of evaluations on one model."""

    kind: Literal["evaluate"]
    model: ModelSettings
    dtype: Dtype
    max_length: int
    evaluation: Evaluation


class RewardSettings(Strict):
    """The toy world's reward model, trained from nothing on the training pairs."""

    kind: Literal["reward"]


class JudgeSettings(Strict):
    """One judge on the stored replies of one model, or of two."""

    kind: Literal["judge"]
    judge: Judge


StageSettings = Annotated[
    TrainSettings
    | ReferenceSettings
    | CalibrateSettings
    | PretrainSettings
    | ConvertSettings
    | PrepareSettings
    | EvaluateSettings
    | RewardSettings
    | JudgeSettings,
    Field(discriminator="kind"),
]


class StageInputs(Strict):
    """Ids of the stages whose folders this one reads. Each id is also the folder's name, beside this stage's own."""

    base: str | None = Field(
        None, description="Stage that made the base model; None: `settings.model` names it."
    )
    data: str | None = Field(None, description="Stage that prepared the data.")
    demonstrations: str | None = Field(
        None, description="Stage that prepared what SFT trains on in place of the pairs' chosen replies."
    )
    policy: str | None = Field(
        None, description="Training stage whose model this one starts from, or evaluates."
    )
    reference: str | None = Field(
        None, description="Stage that computed the reference log-probs: DPO with `reference: precomputed`."
    )
    base_evaluation: str | None = Field(
        None,
        description="The same evaluation on the base model, which this one is compared with, pair by pair.",
    )
    reward: str | None = Field(None, description="A judge's: the stage that trained its reward model.")
    replies: str | None = Field(None, description="A judge's: the generation stage whose replies it reads.")
    opponent: str | None = Field(
        None, description="A comparing judge's: the generation stage whose replies it compares them with."
    )

    @property
    def trained_on(self) -> str | None:
        """The stage whose training pairs a training stage gets."""
        return self.demonstrations or self.data


class Limits(Strict):
    """How a stage is watched over. Cannot change what it makes, so it is no part of its identity."""

    save_every_minutes: float | None = Field(
        None, description="A training stage makes a checkpoint so often; None: never."
    )
    hang_minutes: float | None = Field(
        None, description="A stage that is silent for so long is ended; None: never."
    )
    stage_hours: float | None = Field(None, description="A stage that runs longer is ended; None: never.")
    retries: int = Field(0, description="Further attempts after a failure that may be transient.")
    divergence_factor: float | None = Field(
        None, description="A training whose loss stays above so many times its first is ended; None: never."
    )


class Stage(Strict):
    """The content of a `stage.json`: all that a process needs to run this stage.

    `python -m harness.stage FOLDER/stage.json` runs it; inputs are found at `FOLDER/../<input id>`.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    id: str = Field(
        pattern=r"^[a-z]+-[0-9a-f]{12}$", description="`<kind>-<12 hex digits of the identity hash>`."
    )
    settings: StageSettings
    inputs: StageInputs = StageInputs()
    seed: int = Field(ge=0, description="Every random source of the stage is seeded from it.")
    threads: int = Field(ge=1, description="CPU threads that torch may use.")
    device: Literal["cpu", "cuda"]
    night: str | None = Field(
        None,
        description="The night for which a finished stage is measured anew; part of the identity where given.",
    )
    limits: Limits = Limits()
    workers: int = Field(
        1,
        ge=1,
        description="Stages that its run lets run at a time, itself included; no part of the identity.",
    )

    @property
    def kind(self) -> str:
        """The stage's kind, which is also the first part of its id."""
        return self.settings.kind


class Observer(Protocol):
    """What a stage tells the process that runs it. Pipelines know nothing of meters; they mark phases and steps."""

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        """Everything inside the returned context belongs to phase `name`. Phases do not nest."""

    def aside(self, name: Phase) -> AbstractContextManager[None]:
        """Everything inside the returned context belongs to phase `name`, though another phase is open."""

    def waiting(self) -> AbstractContextManager[None]:
        """Everything inside the returned context is waiting for the data loader, and part of the open phase."""

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` units of the present phase are finished; of training, a unit is an optimizer step."""

    def seconds(self) -> dict[str, float]:
        """Seconds up to now by phase, those of the stage's processes before a resume among them."""

    def joules(self) -> float | None:
        """Energy up to now of all phases but `validate`; None where it is not measured."""

    def state(self) -> dict[str, Any]:
        """What the observer wants kept with a checkpoint made now; plain JSON."""

    def resume(self, state: dict[str, Any]) -> None:
        """The stage goes on from the checkpoint that `state` was kept with, in another process."""
