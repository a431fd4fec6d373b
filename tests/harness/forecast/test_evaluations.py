"""Evaluations' seconds: as earlier ones took, else by tokens and by hand, and what nothing tells is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.forecast.benchmarks import work_of
from harness.forecast.bill import total_of
from harness.forecast.devices import Device
from harness.forecast.duration import Speed
from harness.forecast.evaluations import Size, earlier_seconds, evaluation_seconds
from harness.forecast.schema import Range
from harness.plan import Plan, read_plan
from harness.planning import make_plan
from harness.records import RECORD
from pipelines.evaluations import TASK_PRESETS
from pipelines.forecast.request import Lengths, StageAnswer, Work
from pipelines.stages import EvaluateSettings
from tests.harness.fixtures_results import Run, make_results
from tests.harness.forecast.made_up import stage

PARAMETERS, FLOPS_PER_SECOND, BYTES_PER_SECOND = 1000, 1e6, 1e6
TEST_PAIRS = 30


def size() -> Size:
    answer = StageAnswer(
        phases={"load": {"weights": 4 * PARAMETERS}},
        largest={},
        peak_by_micro_batch={},
        work=Work(matmul_flops=0, attention_flops=0, reference_matmul_flops=0, reference_attention_flops=0),
        length=64,
        num_parameters=PARAMETERS,
        num_trainable_parameters=PARAMETERS,
        weights_bytes=4 * PARAMETERS,
        method="fake tensors",
    )
    lengths = Lengths(
        source="prepared data", num_train_pairs=100, num_test_pairs=TEST_PAIRS, chosen=[20], rejected=[40]
    )
    device = Device("made up", "cpu", 10**9, 1e9, 1e9, BYTES_PER_SECOND, None)
    rate = Range(low=FLOPS_PER_SECOND / 2, mid=FLOPS_PER_SECOND, high=2 * FLOPS_PER_SECOND)
    return Size(answer, lengths, 100, device, Speed(rate, 0.0, "made up"))


def plan(*, eval_every: float | None = None, **evaluations: Any) -> Plan:
    """One seed: base, SFT, and the two arms are evaluated."""
    nothing = {"preference": None, "generation": None, "benchmarks": None}
    shape = {"effective_batch": 16, "micro_batch": 8, "max_length": 128, "eval_every": eval_every}
    changes = {"evaluations": nothing | evaluations, "training": shape}
    return make_plan(Run(seeds=1, decision={"metric": "preference_accuracy"}, changes=changes).comparison())


def test_both_replies_of_every_test_pair_are_scored_in_one_forward_pass() -> None:
    found, left_out = evaluation_seconds(plan(preference={}), size(), {})
    seconds = 2 * TEST_PAIRS * 30 * 2 * PARAMETERS / FLOPS_PER_SECOND
    assert [one.mid for one in found] == pytest.approx([seconds] * 4)
    assert (found[0].low, found[0].high) == pytest.approx((seconds / 2, 2 * seconds))
    assert not left_out


def test_looks_during_training_are_in_the_evaluations_time() -> None:
    without, _ = evaluation_seconds(plan(preference={}), size(), {})
    found, _ = evaluation_seconds(plan(eval_every=0.25, preference={}), size(), {})
    # Of SFT, DPO and ORPO: five looks at 64 of the 100 training pairs and at all 14 for validation (100 are seven tenths
    # of the rows, validation is one), two sequences of 30 tokens each.
    expected = 5 * (64 + 14) * 2 * 30 * 2 * PARAMETERS / FLOPS_PER_SECOND
    assert sum(one.mid for one in found) - sum(one.mid for one in without) == pytest.approx(3 * expected)


def test_a_reply_takes_no_less_than_reading_the_weights_for_each_token() -> None:
    generation = {"max_items": 10, "max_new_tokens": 5, "batch_size": 4}
    found, _ = evaluation_seconds(plan(preference={}, generation=generation), size(), {})
    computing = 10 * (30 + 5) * 2 * PARAMETERS / FLOPS_PER_SECOND
    reading = 3 * 5 * 4 * PARAMETERS / BYTES_PER_SECOND  # three batches
    assert any(one.mid == pytest.approx(computing + 3 * reading) for one in found)
    assert any(one.low == pytest.approx(computing / 2 + reading) for one in found)


def test_the_capabilities_are_expected_to_take_as_long_as_their_tokens() -> None:
    asked = plan(preference={}, benchmarks={"tasks": ["capabilities"], "limit": 10, "batch_size": 2})
    found, left_out = evaluation_seconds(asked, size(), {})
    work = work_of(TASK_PRESETS["capabilities"], num_fewshot=None, limit=10)
    assert work is not None
    computing = (work.read_tokens + work.written_tokens) * 2 * PARAMETERS / FLOPS_PER_SECOND
    reading = 10 * (500 + 180) / 2 * 4 * PARAMETERS / BYTES_PER_SECOND
    of_benchmarks = [one for one in found if one.mid == pytest.approx(computing + 3 * reading)]
    assert len(of_benchmarks) == 4
    assert of_benchmarks[0].low == pytest.approx((computing / 2 + reading) / 2)
    assert of_benchmarks[0].high == pytest.approx((computing * 2 + 10 * reading) * 2)
    assert not left_out


def test_what_nothing_tells_is_named_and_in_no_sum() -> None:
    asked = plan(preference={}, benchmarks={"tasks": ["toy_task"]})
    stages = {one.id: stage() for one in asked.stages if one.kind in ("sft", "dpo", "orpo")}
    total = total_of(asked, stages, size(), None, {})
    assert total.not_forecast == ["pretrain (1 stages)", "data (1 stages)", "benchmarks (4 stages)"]
    assert total.training_seconds.mid == 3 * 8.0
    assert total.seconds.mid == pytest.approx(total.training_seconds.mid + total.evaluation_seconds.mid)


def test_an_evaluation_that_was_made_before_on_this_device_is_taken_to_last_as_long(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=1))
    asked = read_plan(folder)
    benchmarks = [
        one.id
        for one in asked.stages
        if isinstance(one.settings, EvaluateSettings) and one.settings.evaluation.group == "benchmarks"
    ]
    for stage_id, seconds in zip(benchmarks, (100.0, 200.0, 400.0, 200.0), strict=True):
        path = folder / stage_id / RECORD
        content = json.loads(path.read_text())
        content["cost"]["total_seconds"] = seconds
        path.write_text(json.dumps(content))
    (folder / benchmarks[0]).with_name("evaluate-damaged").mkdir()
    (folder / "evaluate-damaged" / RECORD).write_text("{")
    assert earlier_seconds(tmp_path, "another device") == {}
    found, left_out = evaluation_seconds(asked, size(), earlier_seconds(tmp_path, "Test CPU @ 2 GHz"))
    assert not left_out
    of_benchmarks = [one for one in found if one.mid == 200.0]
    assert len(of_benchmarks) == 4
    assert (of_benchmarks[0].low, of_benchmarks[0].high) == (100.0, 400.0)
