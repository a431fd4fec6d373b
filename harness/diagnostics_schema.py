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
