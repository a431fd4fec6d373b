"""What the log-probs of pairs say beyond means: does a model go by length, is its margin calibrated, does it overfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.diagnostics_schema import Calibration, PreferenceDiagnostics, ReliabilityBin, Reward
from harness.intervals import FloatArray
from harness.items import Column
from harness.metrics import TRAIN_PREFIX

NUM_BINS = 10
REWARDS: tuple[Reward, ...] = ("preference_margin", "log_odds_margin", "log_ratio_margin")


def preference_diagnostics(
    columns: Mapping[str, Column], *, seed: int | None
) -> PreferenceDiagnostics | None:
    """From the items of one preference evaluation; None where there are fewer than two pairs.

    Args:
        columns: Every column of the items, with those of training pairs if they were scored.
        seed: Which seed's model they are of.
    """
    margins = columns.get("preference_margin")
    if margins is None or len(margins.items) < 2:
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
            name: float(columns[TRAIN_PREFIX + name].values.mean() - column.values.mean())
            for name, column in columns.items()
            if TRAIN_PREFIX + name in columns
        },
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
    bins = [
        ReliabilityBin(
            low=0.5 + place / (2 * NUM_BINS),
            num_pairs=int((places == place).sum()),
            confidence=float(confidence[places == place].mean()),
            accuracy=float(right[places == place].mean()),
        )
        for place in sorted(set(places.tolist()))
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
    values = dict(zip(column.items, column.values, strict=True))
    return np.array([values[item] for item in items])


def _correlation(first: FloatArray, second: FloatArray) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
