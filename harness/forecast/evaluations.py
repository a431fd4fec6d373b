"""How long the evaluations take: as long as earlier ones, else by their tokens; what neither tells is said, not guessed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from pydantic import ValidationError
from pydantic_core import from_json

from harness.forecast.benchmarks import ROUGHLY, work_of
from harness.forecast.devices import Device
from harness.forecast.duration import LEAST_SPREAD, Speed
from harness.forecast.schema import Range
from harness.plan import Plan
from harness.records import RECORD
from harness.rules import train_share
from pipelines.evaluations import BenchmarkEvaluation, GenerationEvaluation, PreferenceEvaluation
from pipelines.forecast.request import Lengths, StageAnswer
from pipelines.stages import EvaluateSettings, JudgeSettings, Stage, TrainSettings

MOST_READ = 200  # newest first


@dataclass(frozen=True)
class Size:
    """What the evaluations run on.

    Attributes:
        answer: Of any stage: the model's size.
        lengths: Of the pairs.
        num_pairs: Training pairs.
        device: Where it runs.
        speed: Of any stage.
    """

    answer: StageAnswer
    lengths: Lengths
    num_pairs: int
    device: Device
    speed: Speed

    @property
    def mean_tokens(self) -> float:
        """Of a sequence."""
        lengths = self.lengths
        return fmean([*lengths.chosen, *lengths.rejected]) if lengths.chosen else float(self.answer.length)


def evaluation_seconds(
    plan: Plan, size: Size, earlier: Mapping[str, list[float]]
) -> tuple[list[Range], Counter[str]]:
    """The seconds of every evaluation stage that can be forecast, and how many of which group cannot.

    A training stage's looks at validation pairs are evaluation, too: they are in no training time.

    Args:
        plan: The plan.
        size: What they run on.
        earlier: From `earlier_seconds`.
    """
    data = plan.comparison.data
    num_rows = size.num_pairs / train_share(data)
    num_test = size.lengths.num_test_pairs or round(num_rows * data.test_share)
    found: list[Range] = []
    left_out: Counter[str] = Counter()
    for stage in plan.stages:
        settings = stage.settings
        if isinstance(settings, TrainSettings) and settings.eval_every is not None:
            splits = [size.num_pairs, round(num_rows * data.validation_share), num_test * settings.eval_test]
            num_pairs = sum(min(settings.eval_pairs, there) for there in splits)
            found.append(_looks(settings.eval_every, num_pairs, size))
        if not isinstance(settings, EvaluateSettings | JudgeSettings):
            continue
        if seconds := earlier.get(settings.model_dump_json()):
            found.append(_like(seconds))
        elif isinstance(settings, JudgeSettings):
            left_out["judge"] += 1
        elif (range_ := _by_tokens(settings, num_test, size)) is not None:
            found.append(range_)
        else:
            left_out[settings.evaluation.group] += 1
    return found, left_out


def earlier_seconds(results: Path, device: str) -> dict[str, list[float]]:
    """Seconds of earlier evaluations and judges on this device, from process start to record, by their settings as JSON."""
    files = [path for kind in ("evaluate", "judge") for path in results.glob(f"*/{kind}-*/{RECORD}")]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    found: dict[str, list[float]] = {}
    for path in files[:MOST_READ]:
        # Only what is needed: an evaluation's record can be long.
        try:
            content = from_json(path.read_bytes())
            settings = Stage.model_validate(content["stage"]).settings
            machine = content["machine"]
            done = content["status"] == "done" and device in (machine["accelerator"], machine["processor"])
            seconds = float(content["cost"]["total_seconds"]) if done else None
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            continue
        if seconds is not None:
            found.setdefault(settings.model_dump_json(), []).append(seconds)
    return found


def _like(seconds: list[float]) -> Range:
    middle, least = median(seconds), 1 + LEAST_SPREAD["records"]
    return Range(low=min(*seconds, middle / least), mid=middle, high=max(*seconds, middle * least))


def _by_tokens(settings: EvaluateSettings, num_test: int, size: Size) -> Range | None:
    """Two operations a parameter and token; None where the number of tokens is not known."""
    evaluation = settings.evaluation
    if isinstance(evaluation, PreferenceEvaluation):
        num_items = min(num_test, evaluation.max_items or num_test) + (evaluation.train_items or 0)
        return _at(size.speed, 2 * num_items * size.mean_tokens * 2 * size.answer.num_parameters)
    if isinstance(evaluation, GenerationEvaluation):
        return _generation(evaluation, num_test, size)
    if isinstance(evaluation, BenchmarkEvaluation):
        return _benchmarks(evaluation, size)
    return None


def _looks(every: float, num_pairs: int, size: Size) -> Range:
    """Both replies of the pairs, at the start and after each share of the steps."""
    num_looks = 1 + math.ceil(1 / every)
    return _at(size.speed, num_looks * num_pairs * 2 * size.mean_tokens * 2 * size.answer.num_parameters)


def _generation(evaluation: GenerationEvaluation, num_test: int, size: Size) -> Range:
    """A token is generated no faster than the weights can be read."""
    rounds = 2 if evaluation.sampled else 1
    num_items = min(num_test, evaluation.max_items or num_test)
    tokens = num_items * (size.mean_tokens + evaluation.max_new_tokens)
    computing = _at(size.speed, rounds * tokens * 2 * size.answer.num_parameters)
    weights = sum(size.answer.phases["load"].get(part, 0) for part in ("weights", "adapter"))
    batches = math.ceil(num_items / evaluation.batch_size)
    reading = rounds * batches * evaluation.max_new_tokens * weights / size.device.bytes_per_second
    # Replies may end early; a loop in Python reaches a third of the memory's speed at best.
    return Range(
        low=computing.low + reading, mid=computing.mid + 3 * reading, high=computing.high + 10 * reading
    )


def _benchmarks(evaluation: BenchmarkEvaluation, size: Size) -> Range | None:
    work = work_of(evaluation.tasks, num_fewshot=evaluation.num_fewshot, limit=evaluation.limit)
    if work is None or evaluation.samples:
        return None
    computing = _at(size.speed, (work.read_tokens + work.written_tokens) * 2 * size.answer.num_parameters)
    weights = sum(size.answer.phases["load"].get(part, 0) for part in ("weights", "adapter"))
    steps = work.written_tokens / evaluation.batch_size  # a batch writes a token of each of its texts at once
    reading = steps * weights / size.device.bytes_per_second
    return Range(
        low=(computing.low + reading) / ROUGHLY,
        mid=computing.mid + 3 * reading,
        high=(computing.high + 10 * reading) * ROUGHLY,
    )


def _at(speed: Speed, flops: float) -> Range:
    rate = speed.flops_per_second
    return Range(low=flops / rate.high, mid=flops / rate.mid, high=flops / rate.low)
