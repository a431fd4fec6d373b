"""The form of what `summary.json` says of quality while models train: curves, likelihood displacement, the price of a target."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.metrics import Direction
from pipelines.evaluations import Split
from pipelines.stages import Strict, ValidationMetric


class OverSeeds(Strict):
    """A mean over seeds."""

    mean: float
    low: float | None = Field(
        description="95 % interval for other seeds (Student's t); null with a single seed."
    )
    high: float | None


class LearningPoint(Strict):
    """A look at an arm's model while it trains: means over seeds. What earlier stages of the arm took is in every sum."""

    stage: int = Field(description="Place of the stage within its arm, from 1.")
    step: int = Field(
        description="Optimizer steps of this stage; 0 is before its first. Of the first seed, where they differ by a few."
    )
    num_seeds: int
    num_policy_tokens: float
    num_reference_tokens: float
    train_seconds: float
    total_seconds: float = Field(description="With starting and loading, without the looks themselves.")
    energy_joules: float | None = Field(None, description="null where it was not measured.")
    money: float | None = Field(description="`total_seconds` at the config's `price_per_hour`.")
    validation: dict[str, float] = Field(description="Metric to its mean on validation pairs.")
    train: dict[str, float] = Field(description="The same on pairs that are trained on.")


class Displacement(Strict):
    """From a stage's start to its end, what became of the likelihood of both replies."""

    model: str
    stage: int = Field(description="Place of the stage within its arm, from 1.")
    trainer: Literal["sft", "dpo", "orpo"]
    split: Split
    chosen: OverSeeds = Field(description="Change of the length-averaged log-prob of chosen, nats per token.")
    rejected: OverSeeds
    margin: OverSeeds
    displaced: bool | None = Field(
        description="Whether chosen fell while the margin grew, both by their whole intervals; null with a single seed."
    )
    num_seeds: int
    num_pairs: int


class Reached(Strict):
    """The first look of one seed that is at least as good as the target, and what had been spent by then."""

    seed: int
    stage: int
    step: int
    value: float
    num_policy_tokens: int
    train_seconds: float
    total_seconds: float
    energy_joules: float | None = None
    money: float | None


class TargetReached(Strict):
    """What a target cost one arm."""

    by_seed: list[Reached]
    not_reached: list[int] = Field(description="Seeds that trained to their end without it.")
    best: OverSeeds | None = Field(description="The best value of any look, over seeds.")
    num_policy_tokens: OverSeeds | None = Field(description="null unless every finished seed reached it.")
    train_seconds: OverSeeds | None
    total_seconds: OverSeeds | None
    energy_joules: OverSeeds | None = None
    money: OverSeeds | None


class TargetSummary(Strict):
    """The price of the declared target."""

    metric: ValidationMetric
    value: float
    direction: Direction
    arms: dict[str, TargetReached] = Field(description="Those of which a seed finished.")
    ratio: OverSeeds | None = Field(
        description="Training seconds until the target, first arm of the verdict over second: geometric mean over seeds with the "
        "verdict's confidence; null unless every finished seed of both reached it after its start."
    )
    num_seeds: int = Field(description="Pairs of seeds behind `ratio`.")
