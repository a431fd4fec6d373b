"""What the tracker says of tensors whose sizes are plain."""

from __future__ import annotations

import torch

from pipelines.forecast.storages import Moment, StorageTracker

KILO = 1024


def test_a_peak_counts_what_lives_at_once_and_views_once() -> None:
    with StorageTracker({}) as tracker:
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
    with StorageTracker({7: 1.0}) as tracker:
        weights = torch.zeros(KILO)
        tracker.tag(weights, "weights")
        logits = torch.zeros(3, 7)
        tracker.at(phase="step", place="here")
    parts = tracker.peaks[Moment("step", "here")]
    assert (parts["weights"], parts["logits"], parts["activations"]) == (KILO * 4, logits.numel() * 4, 0)


def test_a_product_of_matrices_is_two_operations_an_element_and_term() -> None:
    with StorageTracker({}) as tracker:
        tracker.at(phase="forward", place="here")
        torch.zeros(3, 5) @ torch.zeros(5, 7)
    assert tracker.flops["forward"].matmul == 2 * 3 * 5 * 7


def test_of_a_tile_that_is_wider_than_the_vocabulary_only_what_is_written_counts() -> None:
    with StorageTracker({64: 0.25}) as tracker:
        tracker.at(phase="forward", place="here")
        tile = torch.zeros(3, 64)
        assert tracker.peaks[Moment("forward", "here")]["logits"] == 3 * 64 * 4 // 4
        del tile
        tracker.at(phase="step", place="here")
    assert sum(tracker.peaks[Moment("step", "here")].values()) == 0


def test_gradients_that_meet_are_added_in_place_as_autograd_does_without_a_dispatch_mode() -> None:
    """Beside four tensors of the forward pass live two gradients, and no third one for their sum."""
    start = torch.zeros(KILO, requires_grad=True)
    with StorageTracker({}) as tracker:
        tracker.tag(start, "weights")
        middle = start * 2.0
        first, second = middle.exp(), middle.exp()
        loss = first.sum() + second.sum()
        tracker.at(phase="backward", place="here")
        loss.backward()
    peak = sum(tracker.peaks[Moment("backward", "here")].values())
    assert 6 * KILO * 4 <= peak < 6.5 * KILO * 4


def test_a_term_that_outlives_the_sum_counts_beside_it() -> None:
    with StorageTracker({}) as tracker, torch.no_grad():
        first, second = torch.zeros(KILO), torch.zeros(KILO)
        tracker.at(phase="backward", place="here")
        both = first + second
        both.neg_()
    assert sum(tracker.peaks[Moment("backward", "here")].values()) == 3 * KILO * 4
