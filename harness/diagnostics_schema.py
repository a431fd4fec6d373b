"""The form of what `summary.json` says beside the means: length, calibration, overfitting, and station to station."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.stages import Strict

Reward = Literal["preference_margin", "log_odds_margin", "log_ratio_margin"]


class ReliabilityBin(Strict):
    """Pairs of similar confidence: how sure the model was, and how often it was right."""

    low: float = Field(
        description="Confidences from here, the sigmoid of the margin's size; bins are 0.05 wide."
    )
    num_pairs: int
    confidence: float = Field(description="Mean confidence of the bin's pairs.")
    accuracy: float = Field(description="Share of its pairs in which chosen was preferred.")


class Calibration(Strict):
    """Whether one reward's margin, read as log odds of being right, says how often it is."""

    reward: Reward
    expected_error: float = Field(
        description="Mean over pairs of the distance of confidence and accuracy, by bin."
    )
    bins: list[ReliabilityBin] = Field(description="Those that have pairs.")


class BatchNoise(Strict):
    """How far numbers in less than float32 move with the size of the batches they are computed in: evaluation noise."""

    sizes: list[int] = Field(description="Sizes of the batches beside the config's.")
    num_pairs: int
    largest_margin_change: float = Field(description="Of `preference_margin` of one pair, nats per token.")
    mean_margin_spread: float = Field(description="Highest less lowest mean margin over the sizes.")
    accuracy_spread: float = Field(description="Highest less lowest `preference_accuracy` over the sizes.")


class NearTies(Strict):
    """Places of greedy replies where the two likeliest tokens lie within 1e-4 nats: only there a reply may hang on its batch."""

    num_places: int
    num_tokens: int = Field(description="All places, ends of turn among them.")
    num_replies: int = Field(description="Replies that have such a place.")


class PreferenceDiagnostics(Strict):
    """Of one model, from the items of its preference evaluation."""

    seed: int | None = Field(description="null for a base model that all seeds share.")
    num_pairs: int
    margin_length_correlation: float | None = Field(
        description="Pearson's, of `preference_margin` and tokens of chosen less tokens of rejected; null where either "
        "does not vary."
    )
    calibration: list[Calibration]
    train_test_gap: dict[str, float] = Field(
        description="By metric: mean on training pairs minus mean on the evaluated split; needs `train_items`."
    )
    noise: BatchNoise | None = Field(None, description="null in float32, where the batch does not matter.")


class StationChange(Strict):
    """One metric at two stations, seed by seed on the same items."""

    before: str = Field(description="Model at the earlier station, such as `sft`.")
    after: str = Field(description="Model at the later one, such as `sft-dpo`.")
    metric: str
    before_mean: float
    after_mean: float
    difference: float = Field(description="After minus before.")
    low: float | None = Field(
        description="95 % interval, for other seeds and other items; null with fewer than two of either."
    )
    high: float | None
    worse: bool | None = Field(
        description="Whether the whole interval lies on the worse side of 0; null without one."
    )
    num_seeds: int
    num_items: int


class Shift(Strict):
    """A mean change since the base."""

    mean: float
    low: float | None = Field(
        description="95 % interval, for other seeds and other items; null with fewer than two of either."
    )
    high: float | None


class StationLikelihood(Strict):
    """What became of the likelihood of both replies of the evaluated pairs, from the untouched base to one measured model."""

    model: str
    chosen: Shift = Field(description="Of the length-averaged log-prob of chosen, nats per token.")
    rejected: Shift
    margin: Shift
    displaced: bool | None = Field(
        description="Whether chosen fell while the margin grew, both by their whole intervals; null without them."
    )
    num_seeds: int
    num_items: int
