"""What the tracker says of tensors whose sizes are plain."""

from __future__ import annotations

import torch

from pipelines.forecast.storages import Moment, StorageTracker

KILO = 1024


def test_a_peak_counts_what_lives_at_once_and_views_once() -> None:
    with StorageTracker(set()) as tracker:
        tracker.at(phase="forward", place="here")
        first = torch.zeros(KILO)
        view = first[10:20]
        del first
        second = torch.zeros(2 * KILO)
        del view
        third = torch.zeros(KILO)
        del second, third
    assert sum(tracker.peaks[Moment("forward", "here")].values()) == 3 * KILO * 4


def test_a_tagged_storage_changes_its_part() -> None:
    with StorageTracker({7}) as tracker:
        weights = torch.zeros(KILO)
        tracker.tag(weights, "weights")
        logits = torch.zeros(3, 7)
        tracker.at(phase="step", place="here")
    parts = tracker.peaks[Moment("step", "here")]
    assert (parts["weights"], parts["logits"], parts["activations"]) == (KILO * 4, logits.numel() * 4, 0)


def test_a_product_of_matrices_is_two_operations_an_element_and_term() -> None:
    with StorageTracker(set()) as tracker:
        tracker.at(phase="forward", place="here")
        torch.zeros(3, 5) @ torch.zeros(5, 7)
    assert tracker.flops["forward"].matmul == 2 * 3 * 5 * 7
