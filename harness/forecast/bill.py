"""Sums over stages: an arm, the two arms' ratio, the whole comparison with evaluations, disk, energy and money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean

from harness.forecast.evaluations import Size, evaluation_seconds
from harness.forecast.schema import ArmForecast, Range, Ratio, StageForecast, Total
from harness.plan import Plan
from pipelines.forecast.request import Lengths
from pipelines.stages import TrainSettings

SECONDS_PER_HOUR = 3600
JOULES_PER_KWH = 3.6e6
# What CUDA's caching allocator reserves beyond live tensors, a stated margin; a CPU's returns what is free.
OVERHEAD_SHARE = {"cuda": 0.05, "cpu": 0.0}
# What a stage's process comes to hold beside tensors once it works: the trainer, the data, code that is read when it is
# first called. Measured by benchmarks/forecast.py.
PROCESS_BYTES = {"cuda": 0, "cpu": 90 * 2**20}
# What the driver and its libraries hold on a card beside the allocator.
CONTEXT_BYTES = 600_000_000
# Prepared pairs keep ids as 4-byte numbers, and their text, about as long again.
BYTES_PER_DATA_TOKEN = 8
ADAM_STATES = 2
NO_TIME = Range(low=0, mid=0, high=0)
PREPARATION = ("pretrain", "convert", "data", "calibrate")


def overhead(tensor_bytes: int, kind: str) -> int:
    """What an allocator reserves beyond so many bytes of tensors and, on a CPU, what the process holds beside them."""
    return round(tensor_bytes * OVERHEAD_SHARE[kind]) + PROCESS_BYTES[kind]


def arm_forecast(stages: list[StageForecast], price_per_hour: float | None) -> ArmForecast:
    """An arm on one seed: the highest peak, the sum of the seconds."""
    seconds = _sum(stage.seconds for stage in stages)
    return ArmForecast(
        peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
        seconds=seconds,
        money=_money(seconds, price_per_hour),
        stages=stages,
    )


def ratio_of(arms: dict[str, ArmForecast], compare: tuple[str, str]) -> Ratio | None:
    """The first arm over the second, middle over middle."""
    if not set(compare) <= set(arms):
        return None
    first, second = (arms[name] for name in compare)
    seconds = first.seconds.mid / second.seconds.mid
    return Ratio(
        arms=compare,
        peak_memory=first.peak_memory_bytes / second.peak_memory_bytes,
        seconds=seconds,
        # Both are paid by the same hour.
        money=seconds if first.money is not None else None,
    )


def total_of(
    plan: Plan,
    stages: Mapping[str, StageForecast],
    size: Size,
    price_per_hour: float | None,
    earlier_evaluations: Mapping[str, list[float]],
) -> Total:
    """The whole comparison: each distinct stage once.

    Args:
        plan: All trials and stages.
        stages: Distinct training stages by id.
        size: What the evaluations run on.
        price_per_hour: Of the device.
        earlier_evaluations: From `earlier_seconds`.
    """
    training = _sum(stage.seconds for stage in stages.values())
    evaluations, left_out = evaluation_seconds(plan, size, earlier_evaluations)
    preparation: Counter[str] = Counter(stage.kind for stage in plan.stages if stage.kind in PREPARATION)
    not_forecast = preparation + left_out
    evaluation = _sum(evaluations)
    seconds = _sum((training, evaluation))
    watts = size.device.watts
    return Total(
        seconds=seconds,
        training_seconds=training,
        evaluation_seconds=evaluation,
        not_forecast=[f"{what} ({count} stages)" for what, count in not_forecast.items()],
        disk_bytes=_disk(plan, stages, size.lengths, size.num_pairs),
        energy_kwh=None if watts is None else seconds.times(watts / JOULES_PER_KWH),
        money=_money(seconds, price_per_hour),
    )


def _disk(plan: Plan, stages: Mapping[str, StageForecast], lengths: Lengths, num_pairs: int) -> int:
    """Models that stay, prepared pairs, and the largest checkpoint with its optimizer states while it is needed."""
    tokens = fmean(lengths.chosen) + fmean(lengths.rejected) if lengths.chosen else 2 * _window(plan)
    checkpoint = max((1 + ADAM_STATES) * stage.disk_bytes for stage in stages.values())
    data = round(num_pairs * tokens * BYTES_PER_DATA_TOKEN)
    return sum(stage.disk_bytes for stage in stages.values()) + data + checkpoint


def _window(plan: Plan) -> int:
    return next(s.settings.max_length for s in plan.stages if isinstance(s.settings, TrainSettings))


def _sum(ranges: Iterable[Range]) -> Range:
    total = NO_TIME
    for one in ranges:
        total = Range(low=total.low + one.low, mid=total.mid + one.mid, high=total.high + one.high)
    return total


def _money(seconds: Range, price_per_hour: float | None) -> Range | None:
    return None if price_per_hour is None else seconds.times(price_per_hour / SECONDS_PER_HOUR)
