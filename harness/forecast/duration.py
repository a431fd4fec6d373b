"""From a stage's work to its seconds: micro-batches as long as their longest pair, throughput as a range."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import fmean, median

from harness.forecast.devices import Device
from harness.forecast.schema import Range
from pipelines.data.splitting import share_size
from pipelines.forecast.request import StepTimes, Work
from pipelines.stages import TrainSettings

DEFAULT_EPOCHS = 3.0  # transformers' num_train_epochs
DRAWS = 400
# Shares of the peak that training reaches: low, middle, high.
SHARES = {"cuda": (0.2, 0.35, 0.5), "cpu": (0.08, 0.25, 0.6)}
# Neither a few steps nor other runs say it better than this.
LEAST_SPREAD = {"calibration": 0.1, "records": 0.25}


@dataclass(frozen=True)
class Load:
    """How much a stage has to do.

    Attributes:
        num_steps: Optimizer steps.
        num_micro_batches: Through the policy.
        policy_flops: Of one micro-batch, in the mean.
        reference_flops: Of the whole stage.
        mean_length: Tokens to which a micro-batch is padded, in the mean.
    """

    num_steps: int
    num_micro_batches: int
    policy_flops: float
    reference_flops: float
    mean_length: float

    @property
    def flops(self) -> float:
        """Of the whole stage."""
        return self.num_micro_batches * self.policy_flops + self.reference_flops


@dataclass(frozen=True)
class Speed:
    """How fast it is done.

    Attributes:
        flops_per_second: Low is the slowest.
        step_seconds: What the optimizer takes for each of its steps beside that.
        source: Where both come from.
    """

    flops_per_second: Range
    step_seconds: float
    source: str


def load_of(
    settings: TrainSettings, work: Work, *, length: int, sequences: list[int], num_pairs: int
) -> Load:
    """What a stage has to do.

    Args:
        settings: The stage.
        work: Of one micro-batch whose sequences have `length` tokens.
        length: See there.
        sequences: Tokens of sequences as they come, from `Lengths.padded`.
        num_pairs: Training pairs.
    """
    rows = share_size(num_pairs, settings.share or 1.0)
    micro_batches_an_epoch = math.ceil(rows / settings.micro_batch)
    accumulation = settings.effective_batch // settings.micro_batch
    steps_an_epoch = math.ceil(micro_batches_an_epoch / accumulation)
    epochs = float(settings.arguments.get("num_train_epochs", DEFAULT_EPOCHS))
    most_steps = int(settings.arguments.get("max_steps", -1))
    num_steps = most_steps if most_steps > 0 else math.ceil(epochs * steps_an_epoch)
    num_micro_batches = math.ceil(num_steps / steps_an_epoch * micro_batches_an_epoch)
    chance = random.Random(0)
    drawn = [max(chance.choices(sequences, k=settings.micro_batch)) / length for _ in range(DRAWS)]
    linear, square = fmean(drawn), fmean(share * share for share in drawn)
    reference = work.reference_matmul_flops * linear + work.reference_attention_flops * square
    # Precomputed log-probs are computed once, however many epochs follow.
    passes = micro_batches_an_epoch if settings.reference == "precomputed" else num_micro_batches
    return Load(
        num_steps=num_steps,
        num_micro_batches=num_micro_batches,
        policy_flops=work.matmul_flops * linear + work.attention_flops * square,
        reference_flops=reference * passes,
        mean_length=linear * length,
    )


def seconds_of(load: Load, speed: Speed) -> Range:
    """How long the stage takes."""
    optimizer = load.num_steps * speed.step_seconds
    rate = speed.flops_per_second
    return Range(
        low=load.flops / rate.high + optimizer,
        mid=load.flops / rate.mid + optimizer,
        high=load.flops / rate.low + optimizer,
    )


def calibrated(times: StepTimes, flops: float) -> Speed:
    """The speed of real steps.

    Args:
        times: What they took.
        flops: Of one of their micro-batches, policy and reference together.
    """
    rate = _spread([flops / seconds for seconds in times.micro_seconds], least=LEAST_SPREAD["calibration"])
    source = f"measured here on {len(times.micro_seconds)} steps"
    return Speed(rate, median(times.optimizer_seconds), source)


def of_records(rates: list[float]) -> Speed:
    """The speed of earlier runs of such stages on such a device."""
    rate = _spread(rates, least=LEAST_SPREAD["records"])
    return Speed(rate, 0.0, f"{len(rates)} earlier stages of this kind on this kind of device")


def of_peak(device: Device, settings: TrainSettings) -> Speed:
    """A stated share of the device's peak."""
    peak = device.peak_flops(settings.dtype)
    low, mid, high = SHARES[device.kind]
    return Speed(
        Range(low=low * peak, mid=mid * peak, high=high * peak),
        0.0,
        f"{mid:.0%} of the device's peak, {low:.0%} to {high:.0%}: a guess, --calibrate measures",
    )


def _spread(rates: list[float], *, least: float) -> Range:
    middle = median(rates)
    return Range(low=min(*rates, middle / (1 + least)), mid=middle, high=max(*rates, middle * (1 + least)))
