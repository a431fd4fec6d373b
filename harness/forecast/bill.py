"""Sums over stages: an arm, the two arms' ratio, the whole comparison with evaluations, disk, energy and money."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean

from harness.forecast.devices import Device
from harness.forecast.duration import Speed
from harness.forecast.schema import ArmForecast, Range, Ratio, StageForecast, Total
from harness.plan import Plan
from pipelines.forecast.request import Lengths, StageAnswer
from pipelines.stages import (
    BenchmarkEvaluation,
    EvaluateSettings,
    GenerationEvaluation,
    PreferenceEvaluation,
    TrainSettings,
)

SECONDS_PER_HOUR = 3600
JOULES_PER_KWH = 3.6e6
# What CUDA's caching allocator reserves beyond live tensors, a stated margin; a CPU's returns what is free.
OVERHEAD_SHARE = {"cuda": 0.05, "cpu": 0.0}
# What the driver and its libraries hold on a card beside the allocator.
CONTEXT_BYTES = 600_000_000
# Prepared pairs keep ids as 4-byte numbers, and their text, about as long again.
BYTES_PER_DATA_TOKEN = 8
ADAM_STATES = 2
NO_TIME = Range(low=0, mid=0, high=0)


def overhead(tensor_bytes: int, kind: str) -> int:
    """What an allocator reserves beyond so many bytes of tensors."""
    return round(tensor_bytes * OVERHEAD_SHARE[kind])


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
    stages: dict[str, StageForecast],
    answer: StageAnswer,
    lengths: Lengths,
    num_pairs: int,
    device: Device,
    speed: Speed,
    price_per_hour: float | None,
    notes: list[str],
) -> Total:
    """The whole comparison: each distinct stage once.

    Args:
        plan: All trials and stages.
        stages: Distinct training stages by id.
        answer: Of any stage: the model's size.
        lengths: Of the pairs.
        num_pairs: Training pairs.
        device: Where it runs.
        speed: Of any stage, for the evaluations.
        price_per_hour: Of the device.
        notes: Gets what is left out.
    """
    training = _sum(stage.seconds for stage in stages.values())
    evaluation = _evaluations(plan, answer, lengths, num_pairs, device, speed, notes)
    seconds = _sum((training, evaluation))
    watts = device.watts
    return Total(
        seconds=seconds,
        training_seconds=training,
        evaluation_seconds=evaluation,
        disk_bytes=_disk(plan, stages, lengths, num_pairs),
        energy_kwh=None if watts is None else seconds.times(watts / JOULES_PER_KWH),
        money=_money(seconds, price_per_hour),
    )


def _evaluations(
    plan: Plan,
    answer: StageAnswer,
    lengths: Lengths,
    num_pairs: int,
    device: Device,
    speed: Speed,
    notes: list[str],
) -> Range:
    """Two operations a parameter and token; generated tokens at least as long as the weights take to be read."""
    tokens = fmean([*lengths.chosen, *lengths.rejected]) if lengths.chosen else float(answer.length)
    data = plan.comparison.data
    share = data.test_share / (1 - data.test_share - data.validation_share)
    num_test = lengths.num_test_pairs or round(num_pairs * share)
    found, left_out = [], False
    for stage in plan.stages:
        if not isinstance(stage.settings, EvaluateSettings):
            continue
        evaluation = stage.settings.evaluation
        if isinstance(evaluation, PreferenceEvaluation):
            num_items = min(num_test, evaluation.max_items or num_test)
            found.append(_at(speed, 2 * num_items * tokens * 2 * answer.num_parameters))
        elif isinstance(evaluation, GenerationEvaluation):
            found.append(_generation(evaluation, num_test, tokens, answer, device, speed))
        left_out = left_out or isinstance(evaluation, BenchmarkEvaluation)
    if left_out:
        notes.append("benchmarks are not forecast: their number of items is lm-eval's")
    return _sum(found)


def _generation(
    evaluation: GenerationEvaluation,
    num_test: int,
    tokens: float,
    answer: StageAnswer,
    device: Device,
    speed: Speed,
) -> Range:
    rounds = 2 if evaluation.sampled else 1
    num_items = min(num_test, evaluation.max_items or num_test)
    computing = _at(
        speed, rounds * num_items * (tokens + evaluation.max_new_tokens) * 2 * answer.num_parameters
    )
    weights = sum(answer.phases["load"].get(part, 0) for part in ("weights", "adapter"))
    batches = math.ceil(num_items / evaluation.batch_size)
    reading = rounds * batches * evaluation.max_new_tokens * weights / device.bytes_per_second
    # Replies may end early; a loop in Python reaches a third of the memory's speed at best.
    return Range(
        low=computing.low + reading, mid=computing.mid + 3 * reading, high=computing.high + 10 * reading
    )


def _disk(plan: Plan, stages: dict[str, StageForecast], lengths: Lengths, num_pairs: int) -> int:
    """Models that stay, prepared pairs, and the largest checkpoint with its optimizer states while it is needed."""
    tokens = fmean(lengths.chosen) + fmean(lengths.rejected) if lengths.chosen else 2 * _window(plan)
    checkpoint = max((1 + ADAM_STATES) * stage.disk_bytes for stage in stages.values())
    data = round(num_pairs * tokens * BYTES_PER_DATA_TOKEN)
    return sum(stage.disk_bytes for stage in stages.values()) + data + checkpoint


def _window(plan: Plan) -> int:
    return next(s.settings.max_length for s in plan.stages if isinstance(s.settings, TrainSettings))


def _at(speed: Speed, flops: float) -> Range:
    rate = speed.flops_per_second
    return Range(low=flops / rate.high, mid=flops / rate.mid, high=flops / rate.low)


def _sum(ranges: Iterable[Range]) -> Range:
    total = NO_TIME
    for one in ranges:
        total = Range(low=total.low + one.low, mid=total.mid + one.mid, high=total.high + one.high)
    return total


def _money(seconds: Range, price_per_hour: float | None) -> Range | None:
    return None if price_per_hour is None else seconds.times(price_per_hour / SECONDS_PER_HOUR)
