"""The one config file of a comparison: its keys, their types, their defaults, and the rules between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.evaluations import (
    BenchmarkEvaluation,
    DriftEvaluation,
    GenerationEvaluation,
    PreferenceEvaluation,
)
from pipelines.judge_settings import Judge
from pipelines.stages import (
    DataSettings,
    Dtype,
    Implementation,
    LoraSettings,
    MasterWeights,
    ModelSettings,
    Nll,
    Recording,
    Reference,
    Select,
    Strict,
    Tuning,
    ValidationMetric,
)

Preset = Literal["fair", "stock"]
AUTO = "auto"  # the run measures
Count = Annotated[int, Field(ge=1)] | Literal["auto"]
BudgetMatch = Literal["epochs", "pairs", "tokens", "seconds", "none"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class TrainingShape(Strict):
    """What every training stage of every arm has in common."""

    tuning: Tuning = Field(
        "full", description="Train all weights, a LoRA adapter, or an adapter on 4-bit weights (CUDA only)."
    )
    lora: LoraSettings = Field(LoraSettings(), description="The adapter of `lora` and `qlora`.")
    dtype: Dtype = Field(
        "float32", description="Number format of the weights; bfloat16 also trains in bf16 autocast."
    )
    master_weights: MasterWeights = Field(
        "fp32",
        description="For `dtype: bfloat16` with `tuning: full`: `fp32` keeps and updates the weights in float32 and "
        "computes in bfloat16; `none` updates bfloat16 weights, which needs half the memory and loses small updates.",
    )
    effective_batch: int = Field(16, ge=1, description="Pairs per optimizer step, the same in every stage.")
    micro_batch: int = Field(8, ge=1, description="Pairs per forward pass; must divide `effective_batch`.")
    max_length: int = Field(1024, ge=8, description="Longest prompt and reply together, in tokens.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")
    preset: Preset = Field(
        "fair",
        description="`fair`: ORPO's negative log-likelihood covers the completion, as SFT's does, and no update depends "
        "on how the effective batch is cut into micro-batches. `stock`: each trainer as TRL ships it.",
    )
    recording: Recording = Field(
        "full",
        description="What is kept, as hashes, of what the models received, for the audit: `full` is every micro-batch, "
        "`sampled` every 16th optimizer step.",
    )
    eval_every: float | None = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of a stage's optimizer steps between two looks at validation pairs (0.1: at the start and ten times "
        "after), in every stage alike and outside of the metered training time: quality against tokens, seconds and money. "
        "Empty: none.",
    )
    eval_pairs: int = Field(
        64,
        ge=1,
        description="Pairs at each look: so many of the validation split, and as many that are trained on.",
    )
    eval_test: bool = Field(
        False,
        description="Look at as many test pairs, too: shown over the steps and used for nothing else; `select`, `target` and a sweep "
        "go by validation pairs.",
    )
    select: Select = Field(
        "last",
        description="Which weights every stage leaves: those after its last step, or those of the look, after the start, that was "
        "best on validation pairs. Never on test pairs. What training cost is the whole stage in both cases.",
    )
    select_by: ValidationMetric = Field(
        "preference_accuracy",
        description="What the best is the best by; of equal ones the earliest.",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="TRL arguments of every stage; a stage's own win."
    )


class ArmStage(Strict):
    """One training stage of an arm."""

    trainer: Literal["sft", "dpo", "orpo"] = Field(description="Which of TRL's trainers.")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Any argument of that trainer's config class, such as `learning_rate` or `beta`.",
    )
    reference: Reference | None = Field(
        None,
        description="DPO only: `copy` (default), `adapter` (LoRA) or `precomputed` (log-probs computed once, in a stage "
        "of their own).",
    )
    preset: Preset | None = Field(None, description="For this stage; `training.preset` if empty.")
    implementation: Implementation | None = Field(
        None,
        description="ORPO only: `trl` (default), TRL's ORPOTrainer, or `fused`, the same loss without holding the logits "
        "of the whole vocabulary.",
    )
    nll: Nll | None = Field(
        None,
        description="SFT and ORPO: tokens that the negative log-likelihood covers. Default: `completion`; for ORPO "
        "with `preset: stock`, `prompt_and_completion`.",
    )
    nll_weight: float | None = Field(
        None,
        ge=0,
        description="ORPO only: factor of the negative log-likelihood. Default 1, as in the paper; 0 leaves the odds "
        "ratio alone, for a stage after SFT.",
    )


class SftData(Strict):
    """What every SFT stage trains on: the chosen replies of all training pairs, unless it says otherwise."""

    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the training pairs (chosen by hash, the same for every seed); less than 1 must be declared, "
        "`allow_difference: {sft.share: why}`.",
    )
    data: DataSettings | None = Field(
        None,
        description="Another data set for SFT alone: rows with `prompt` and `completion`, with `messages` or "
        "`conversations` that end in the reply, or preference pairs, whose chosen replies count. Must be declared, "
        "`allow_difference: {sft.data: why}`.",
    )


class Evaluations(Strict):
    """Which groups of evaluations run on every final model; a group that is left out does not run."""

    preference: PreferenceEvaluation | None = PreferenceEvaluation()
    generation: GenerationEvaluation | None = None
    benchmarks: BenchmarkEvaluation | None = None
    drift: DriftEvaluation | None = None
    judges: list[Judge] = Field(
        default_factory=list, description="Who compares the models' stored replies; needs `generation`."
    )


class Span(Strict):
    """Where random values of a sweep are drawn from."""

    low: float = Field(description="The smallest value.")
    high: float = Field(description="The largest value; more than `low`.")
    scale: Literal["linear", "log"] = Field(
        "log", description="Even spread of the values, or of their logarithms."
    )


class RandomPoints(Strict):
    """Points of a sweep drawn at random."""

    num_points: int = Field(ge=2, le=1000, description="How many.")
    seed: int = Field(0, ge=0, description="Seeds the draw.")
    keys: dict[str, Span] = Field(min_length=1, description="Key of the arm to where its values come from.")


class ArmSweep(Strict):
    """The points of one arm, in one of three ways. Keys lead into the arm: `0.arguments.beta` is its first stage's beta."""

    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="Key to its values: every combination is a point."
    )
    points: list[dict[str, Any]] = Field(
        default_factory=list, description="Each point by itself: key to value."
    )
    random: RandomPoints | None = Field(None, description="Points drawn at random.")


class Sweep(Strict):
    """Several settings of each arm, compared on validation items; the best of each arm is then run on fresh seeds."""

    arms: dict[Name, ArmSweep] = Field(min_length=1, description="The arms that are swept.")
    metric: str | None = Field(
        None, description="The metric that chooses, on the validation split; `decision.metric` if empty."
    )
    seeds: int = Field(
        2, ge=1, le=100, description="Seeds of every point. They are not among those of the report."
    )
    unequal_effort: str | None = Field(
        None, description="Why the two compared arms may have different numbers of points."
    )


class Decision(Strict):
    """The declared rule by which the verdict is reached."""

    compare: tuple[Name, Name] = Field(
        ("orpo", "sft-dpo"), description="The two arms of the verdict; the difference is first minus second."
    )
    metric: str = Field("preference_accuracy", description="The primary metric.")
    margin: float = Field(
        0.02,
        gt=0,
        allow_inf_nan=False,
        description="Smaller differences do not matter; in the metric's unit.",
    )
    alpha: float = Field(0.05, ge=1e-6, lt=0.5, description="Share of false verdicts that is accepted.")
    looks: int = Field(
        1,
        ge=1,
        le=2,
        description="How often the data are judged; alpha is shared out. `run --until-decided`: 2.",
    )
    cost: Literal["seconds", "peak_memory", "money"] = Field(
        "seconds", description="The cost that matters beside quality."
    )


class Target(Strict):
    """A quality on validation pairs, whose price is measured: how long each arm trains until it has it."""

    metric: ValidationMetric = Field(description="Measured at each look, see `training.eval_every`.")
    value: float = Field(description="Reached at the first look that is at least as good.")


class Nightly(Strict):
    """What `run --night` does, and what `prefduel gate` bears."""

    seeds: Literal["fixed", "rotate"] = Field(
        "fixed",
        description="The config's seeds each night; or new ones, whose evidence adds to that of the nights before.",
    )
    remeasure: Literal["none", "costs", "all"] = Field(
        "all",
        description="What is measured anew though it is done: nothing (only what has changed runs), what training costs, "
        "or everything.",
    )
    max_cost_ratio: float = Field(
        1.2,
        ge=1,
        description="`prefduel gate` fails where an arm costs more than so many times the baseline.",
    )


class Budget(Strict):
    """What is made equal between arms."""

    match: BudgetMatch = Field(
        "epochs",
        description="`epochs`: every stage goes over the pairs as often as every other. `pairs`, `tokens`, `seconds`: every "
        "arm gets as many pairs through its policy's updates, tokens through its policy's forward passes, or seconds of "
        "training, in all its stages together, as the yardstick takes by its own settings. `none`: nothing is checked.",
    )
    yardstick: Name | None = Field(
        None,
        description="The arm whose own epochs or steps set the budget of all; the first in the config if empty.",
    )
    calibration_steps: int = Field(
        20,
        ge=4,
        description="`seconds` only: so many steps of each distinct training stage are timed before anything is trained.",
    )


class Comparison(Strict):
    """One comparison: the whole config file."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this file's form.")
    name: Name = Field(description="Names the folder under `results/` and the page under `reports/`.")
    model: ModelSettings = Field(description="The base model.")
    base_per_seed: bool = Field(
        False, description="`toy` only: pre-train a base model of its own for each seed."
    )
    data: DataSettings = Field(description="The preference pairs.")
    training: TrainingShape = Field(TrainingShape(), description="What all training stages share.")
    arms: dict[Name, list[ArmStage]] = Field(
        min_length=1, description="The recipes: a name and its ordered stages."
    )
    sft: SftData = Field(SftData(), description="What SFT stages train on.")
    budget: Budget = Field(Budget(), description="What is equal between arms.")
    allow_difference: dict[str, str] = Field(
        default_factory=dict,
        description="Settings that may differ between stages, each with the reason, such as "
        "`{max_grad_norm: as published}`. Without it a difference stops the run.",
    )
    controls: list[Literal["base", "sft"]] = Field(
        ["base", "sft"], description="Models that are measured beside the arms."
    )
    seeds: int = Field(3, ge=1, le=1000, description="How many seeds each arm is trained on.")
    first_seed: int = Field(0, ge=0, description="Seeds are numbered from here.")
    threads: Count | None = Field(None, description="CPU threads; all cores if empty; `auto`: measured once.")
    workers: Count = Field(
        1,
        description="Stages at a time on a CPU, with `metering: relaxed`; `auto`: measured once. On a GPU: 1.",
    )
    metering: Literal["strict", "relaxed"] = Field(
        "strict",
        description="`strict`: a stage has the machine to itself. `relaxed`: others may run beside it, and its seconds are unreliable.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where stages run.")
    save_every_minutes: float | None = Field(
        30,
        gt=0,
        description="A training stage makes a checkpoint so often and, after a kill, goes on from the last. Empty: none are made.",
    )
    keep_weights: Literal["all", "final", "best", "none"] = Field(
        "all",
        description="Weights that stay: all; those that each arm ends with; the best of these on `decision.metric`; none. "
        "The others are removed as soon as nothing still has to read them; no stage runs again for their sake alone.",
    )
    start_method: Literal["auto", "forkserver", "spawn"] = Field(
        "auto",
        description="How a stage's process starts. `auto`: forked from a server that has the heavy imports; on CUDA "
        "spawned, unless it is certain that the server never touched the driver.",
    )
    hang_minutes: float | None = Field(
        60,
        gt=0,
        description="A training stage without a step or a new phase for so long is ended, with status `hung`. Empty: never.",
    )
    stage_hours: float | None = Field(
        None, gt=0, description="A stage that runs longer is ended, with status `timed_out`. Empty: never."
    )
    retries: int = Field(
        1,
        ge=0,
        le=100,
        description="Further attempts at a stage that was killed, hung or did not reach the hub; nothing else is tried again.",
    )
    divergence_factor: float | None = Field(
        2,
        gt=1,
        description="A training stage is ended, with status `diverged`, once 15 of its last 20 steps had a loss above so many "
        "times that of its first step, and at least 3 above it. Empty: never.",
    )
    evaluations: Evaluations = Field(Evaluations(), description="What is measured on every final model.")
    sweep: Sweep | None = Field(None, description="Settings to choose from, for each arm.")
    decision: Decision = Field(Decision(), description="How the verdict is reached.")
    target: Target | None = Field(
        None,
        description="A quality whose price is measured: tokens, seconds and money until each arm reaches it.",
    )
    nightly: Nightly = Field(Nightly(), description="What a night does, and what its gate bears.")
    price_per_hour: float | None = Field(None, ge=0, description="Price of this machine; prices the bill.")
    currency: str = Field("USD", max_length=8, description="Currency of `price_per_hour`.")
