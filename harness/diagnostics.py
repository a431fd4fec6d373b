"""What the log-probs of pairs say beyond means: does a model go by length, is its margin calibrated, does it overfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.diagnostics_schema import (
    BatchNoise,
    Calibration,
    NearTies,
    PreferenceDiagnostics,
    ReliabilityBin,
    Reward,
)
from harness.intervals import FloatArray, cluster_means
from harness.items import Column
from harness.metrics import TRAIN_PREFIX
from harness.records import IN_BATCHES_OF, NEAR_TIES

NUM_BINS = 10
LENGTHS = {"num_chosen_tokens", "num_rejected_tokens"}
REPLY_TOKENS = ("reply_length_tokens", "stopped_share")  # a reply that stopped has an end of turn as well
REWARDS: tuple[Reward, ...] = ("preference_margin", "log_odds_margin", "log_ratio_margin")


def preference_diagnostics(
    columns: Mapping[str, Column], *, seed: int | None
) -> PreferenceDiagnostics | None:
    """From the items of one preference evaluation; None where there are fewer than two pairs, or no lengths.

    Args:
        columns: Every column of the items, with those of training pairs if they were scored.
        seed: Which seed's model they are of.
    """
    margins = columns.get("preference_margin")
    if margins is None or len(margins.items) < 2 or not columns.keys() >= LENGTHS:
        return None
    lengths = _on(columns["num_chosen_tokens"], margins.items) - _on(
        columns["num_rejected_tokens"], margins.items
    )
    return PreferenceDiagnostics(
        seed=seed,
        num_pairs=len(margins.items),
        margin_length_correlation=_correlation(margins.values, lengths),
        calibration=[calibration(columns[reward].values, reward) for reward in REWARDS if reward in columns],
        train_test_gap={
            name: _mean(columns[TRAIN_PREFIX + name]) - _mean(column)
            for name, column in columns.items()
            if TRAIN_PREFIX + name in columns
        },
        noise=batch_noise(columns),
    )


def _mean(column: Column) -> float:
    """Over prompts, as every metric's."""
    return float(cluster_means(column.values, column.clusters).mean())


def near_ties(evaluations: Sequence[Mapping[str, Column]]) -> NearTies | None:
    """Of all greedy replies of a model, those of every seed; None where none were counted.

    Args:
        evaluations: Every column of the items of each generation evaluation.
    """
    counted = [columns for columns in evaluations if NEAR_TIES in columns]
    if not counted:
        return None
    found = np.concatenate([columns[NEAR_TIES].values for columns in counted])
    tokens = sum(float(columns[name].values.sum()) for columns in counted for name in REPLY_TOKENS)
    return NearTies(num_places=int(found.sum()), num_tokens=int(tokens), num_replies=int((found > 0).sum()))


def batch_noise(columns: Mapping[str, Column]) -> BatchNoise | None:
    """How far margins move with the batch; None where no pair was scored in batches of other sizes."""
    before = f"chosen_logprob_mean{IN_BATCHES_OF}"
    sizes = sorted(int(name.removeprefix(before)) for name in columns if name.startswith(before))
    if not sizes:
        return None
    items = columns[f"{before}{sizes[0]}"].items
    tails = ["", *(f"{IN_BATCHES_OF}{size}" for size in sizes)]
    margins = np.array(
        [
            _on(columns[f"chosen_logprob_mean{tail}"], items)
            - _on(columns[f"rejected_logprob_mean{tail}"], items)
            for tail in tails
        ]
    )  # (sizes, pairs)
    right = np.where(margins == 0, 0.5, margins > 0).mean(1)
    return BatchNoise(
        sizes=sizes,
        num_pairs=len(items),
        largest_margin_change=float(np.ptp(margins, axis=0).max()),
        mean_margin_spread=float(np.ptp(margins.mean(1))),
        accuracy_spread=float(np.ptp(right)),
    )


def calibration(margins: FloatArray, reward: Reward) -> Calibration:
    """The reliability curve of margins in nats.

    The model prefers the reply with the higher reward, with the confidence sigmoid(|margin|), between 0.5 and 1.

    References:
        Expected calibration error: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    right = np.where(margins == 0, 0.5, (margins > 0).astype(np.float64))
    places = np.minimum(((confidence - 0.5) * 2 * NUM_BINS).astype(int), NUM_BINS - 1)
    counts, confidences, rights = (
        np.bincount(places, weights, NUM_BINS) for weights in (np.ones(len(places)), confidence, right)
    )
    bins = [
        ReliabilityBin(
            low=0.5 + place / (2 * NUM_BINS),
            num_pairs=int(counts[place]),
            confidence=float(confidences[place] / counts[place]),
            accuracy=float(rights[place] / counts[place]),
        )
        for place in map(int, np.flatnonzero(counts))
    ]
    error = sum(one.num_pairs * abs(one.confidence - one.accuracy) for one in bins) / len(margins)
    return Calibration(reward=reward, expected_error=error, bins=bins)


def pooled_bins(found: Sequence[Calibration]) -> list[ReliabilityBin]:
    """The reliability curve of several seeds' pairs together, each pair counted once."""
    pooled = []
    for low in sorted({one.low for curve in found for one in curve.bins}):
        bins = [one for curve in found for one in curve.bins if one.low == low]
        num_pairs = sum(one.num_pairs for one in bins)
        pooled.append(
            ReliabilityBin(
                low=low,
                num_pairs=num_pairs,
                confidence=sum(one.confidence * one.num_pairs for one in bins) / num_pairs,
                accuracy=sum(one.accuracy * one.num_pairs for one in bins) / num_pairs,
            )
        )
    return pooled


def _on(column: Column, items: tuple[str, ...]) -> FloatArray:
    """The column's values of some of its items, in their order."""
    if column.items == items:
        return column.values
    values = dict(zip(column.items, column.values, strict=True))
    return np.array([values[item] for item in items])


def _correlation(first: FloatArray, second: FloatArray) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
