"""Steps, padded micro-batches and seconds, against sums by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.forecast.devices import CARDS
from harness.forecast.duration import (
    Speed,
    calibrated,
    load_of,
    of_peak,
    of_records,
    seconds_of,
)
from harness.forecast.schema import Range
from pipelines.forecast.request import Lengths, StepTimes, Work
from pipelines.stages import LoraSettings, ModelSettings, TrainSettings

WORK = Work(
    matmul_flops=100.0, attention_flops=10.0, reference_matmul_flops=40.0, reference_attention_flops=4.0
)


def settings(kind: str = "sft", **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "model": ModelSettings(name="toy"),
        "tuning": "full",
        "lora": LoraSettings(),
        "dtype": "bfloat16",
        "effective_batch": 8,
        "micro_batch": 4,
        "max_length": 64,
        "gradient_checkpointing": False,
        "nll": "completion",
        "arguments": {"num_train_epochs": 2},
    }
    return TrainSettings(kind=kind, **values | changes)


def test_steps_and_micro_batches_are_counted_as_the_trainer_counts_them() -> None:
    """21 pairs: 6 micro-batches of 4 an epoch, the last one small; 3 steps of 2 micro-batches."""
    load = load_of(settings(), WORK, length=64, sequences=[64], num_pairs=21)
    assert (load.num_steps, load.num_micro_batches) == (6, 12)
    assert load.policy_flops == pytest.approx(110.0)


def test_max_steps_wins_over_epochs() -> None:
    load = load_of(
        settings(arguments={"num_train_epochs": 2, "max_steps": 5}),
        WORK,
        length=64,
        sequences=[64],
        num_pairs=800,
    )
    assert (load.num_steps, load.num_micro_batches) == (5, 10)


def test_a_micro_batch_is_as_long_as_its_longest_sequence() -> None:
    """Half of the sequences are long: of four, all are short in one case of sixteen."""
    load = load_of(settings(), WORK, length=64, sequences=[32, 64], num_pairs=800)
    short = 1 / 16
    assert load.mean_length == pytest.approx(64 * (1 - short) + 32 * short, rel=0.03)
    expected = 100 * (1 - short / 2) + 10 * (1 - short * 3 / 4)
    assert load.policy_flops == pytest.approx(expected, rel=0.03)


def test_precomputed_log_probs_are_computed_once_whatever_the_epochs() -> None:
    copied = load_of(settings("dpo", reference="copy"), WORK, length=64, sequences=[64], num_pairs=16)
    stored = load_of(settings("dpo", reference="precomputed"), WORK, length=64, sequences=[64], num_pairs=16)
    assert copied.reference_flops == pytest.approx(44.0 * 8)
    assert stored.reference_flops == pytest.approx(44.0 * 4)


def test_pairs_are_padded_to_the_longer_reply_and_sft_sees_the_chosen_one_alone() -> None:
    lengths = Lengths(source="sample", num_train_pairs=2, num_test_pairs=1, chosen=[5, 9], rejected=[7, 3])
    assert lengths.padded(settings("sft")) == [5, 9]
    assert lengths.padded(settings("dpo", reference="copy")) == [7, 9]


def test_without_lengths_every_sequence_is_the_longest() -> None:
    assert Lengths().padded(settings("sft")) == [64]


def test_seconds_are_work_over_speed_and_the_optimizer_s_steps() -> None:
    load = load_of(settings(), WORK, length=64, sequences=[64], num_pairs=16)
    speed = Speed(Range(low=10, mid=20, high=40), step_seconds=0.5, source="")
    flops, steps = 8 * (110.0 + 44.0), 4
    found = seconds_of(load, speed)
    assert (found.low, found.mid, found.high) == pytest.approx(
        (flops / 40 + steps * 0.5, flops / 20 + steps * 0.5, flops / 10 + steps * 0.5)
    )


def test_a_measured_speed_is_the_middle_of_the_steps_and_no_surer_than_a_tenth() -> None:
    steady = calibrated(StepTimes(micro_seconds=[2.0, 2.0, 2.0], optimizer_seconds=[0.1, 0.3, 0.2]), 100.0)
    assert steady.flops_per_second.mid == 50
    assert (steady.flops_per_second.low, steady.flops_per_second.high) == pytest.approx((50 / 1.1, 55))
    assert steady.step_seconds == 0.2
    restless = calibrated(StepTimes(micro_seconds=[1.0, 2.0, 4.0], optimizer_seconds=[0.0]), 100.0)
    assert (restless.flops_per_second.low, restless.flops_per_second.high) == (25, 100)


def test_every_source_says_what_it_is() -> None:
    h100 = next(card for card in CARDS if card.name == "H100 80GB")
    guess = of_peak(h100, settings())
    assert guess.flops_per_second.mid == pytest.approx(0.35 * 989e12)
    assert "guess" in guess.source
    assert "3 earlier stages" in of_records([1.0, 2.0, 3.0]).source
