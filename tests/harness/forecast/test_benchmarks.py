"""The expected hours of `capabilities`: known tasks only, and by the tokens of each."""

from __future__ import annotations

import pytest

from harness.forecast.benchmarks import KNOWN, work_of
from pipelines.evaluations import TASK_PRESETS


def test_every_task_of_the_preset_has_its_size() -> None:
    assert set(TASK_PRESETS["capabilities"]) == set(KNOWN)
    found = work_of(TASK_PRESETS["capabilities"], num_fewshot=None, limit=None)
    assert found is not None
    by_task = [work_of([task], num_fewshot=None, limit=None) for task in KNOWN]
    assert found.read_tokens == pytest.approx(sum(work.read_tokens for work in by_task if work))
    assert found.written_tokens == 541 * 500 + 1319 * 180


def test_a_limit_holds_for_each_subject_and_examples_are_read_with_every_item() -> None:
    limited = work_of(["mmlu_stem"], num_fewshot=None, limit=10)
    assert limited is not None
    assert limited.read_tokens == 19 * 10 * 120
    with_examples = work_of(["mmlu_stem"], num_fewshot=4, limit=10)
    assert with_examples is not None
    assert with_examples.read_tokens == 5 * limited.read_tokens
    assert work_of(["mmlu_stem"], num_fewshot=None, limit=0.05) == work_of(
        ["mmlu_stem"],
        num_fewshot=None,
        limit=9,  # of the 166 items of a subject on average
    )
    small = work_of(["truthfulqa_mc2"], num_fewshot=None, limit=10_000)
    assert small is not None
    assert small.read_tokens == pytest.approx(817 * 7.2 * (35 + 210))


def test_a_task_that_is_not_known_is_not_forecast() -> None:
    assert work_of(["hellaswag", "tasks/own.yaml"], num_fewshot=None, limit=None) is None
