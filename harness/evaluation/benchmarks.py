"""Benchmark tasks through lm-eval: all tasks of a model in one call, every item kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lm_eval.api.metrics import mean
from lm_eval.evaluator import evaluate as run_lm_eval
from lm_eval.models.huggingface import HFLM

from harness.evaluation.items import Measured, Row
from harness.evaluation.reading import without_adapter_wrapper
from harness.evaluation.replies import neutral_generation
from harness.evaluation.tasks import Benchmark, load_benchmarks
from harness.metrics import BENCHMARK_PREFIX
from pipelines.data.prepared import read_tokenizer
from pipelines.errors import PipelineError
from pipelines.evaluations import BenchmarkEvaluation
from pipelines.stages import Observer

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = "samples.jsonl"
# The score of an item, where a task has several: the first of these that it lists, else its first usable one.
PREFERRED_METRICS = ("acc", "acc_norm", "exact_match")
# lm-eval's own defaults, so that numbers can be compared with those of its command line.
PYTHON_SEED, OTHER_SEED = 0, 1234


def measure_benchmarks(
    model: PreTrainedModel, evaluation: BenchmarkEvaluation, data: Path, *, observer: Observer
) -> Measured:
    """Run the tasks of `evaluation`.

    Args:
        model: The policy, in eval mode.
        evaluation: Which tasks, how many items.
        data: Folder of the stage that prepared the data; its tokenizer is used.
        observer: Told of phases and progress.

    Raises:
        PipelineError: a task is unknown, its files are missing, or it has no score for single items.
    """
    with observer.phase("data"):
        tokenizer = read_tokenizer(data)
        benchmarks = load_benchmarks(evaluation.tasks)
    with observer.phase("evaluate"):
        return run_benchmarks(model, tokenizer, benchmarks, evaluation=evaluation)


def run_benchmarks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: list[Benchmark],
    *,
    evaluation: BenchmarkEvaluation,
) -> Measured:
    """Score `model` on all `benchmarks` in one call of lm-eval.

    Returns:
        One row an item, `<task>/<number in the task>`, with the column of the benchmark that it belongs to; and the
        samples: what was asked of the model and what came back.

    Raises:
        PipelineError: a task has no score for single items.
    """
    tasks: dict[str, Task] = {task.task_name: task for found in benchmarks for task in found.tasks}
    metrics = {name: item_metric(task) for name, task in tasks.items()}
    for task in tasks.values():
        _set_fewshot(task, evaluation.num_fewshot)
    _seed()
    plain = without_adapter_wrapper(model)
    with neutral_generation(plain):
        # Not `simple_evaluate`: for 1.7 s it lists the machine's packages, drivers and the repository's state.
        found = run_lm_eval(
            HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=evaluation.batch_size),
            {"tasks": tasks, "groups": {}, "group_map": {}},
            limit=evaluation.limit,
            bootstrap_iters=0,
            log_samples=True,
        )
    items: list[Row] = []
    logs: list[Row] = []
    for benchmark in benchmarks:
        column = BENCHMARK_PREFIX + benchmark.name
        for task in benchmark.tasks:
            metric = metrics[task.task_name]
            for sample in _first_filter(found["samples"][task.task_name]):
                item = f"{task.task_name}/{sample['doc_id']}"
                items.append({"item": item, column: float(sample[metric])})
                logs.append(_logged(item, sample, metric=metric))
    return Measured(items, {SAMPLES: logs})


def item_metric(task: Task) -> str:
    """The metric whose plain mean over items is the task's score: accuracy where it has one.

    Raises:
        PipelineError: no metric of the task is a mean over items of which more is better.
    """
    higher = task.higher_is_better()
    usable: list[str] = [
        name for name, made in task.aggregation().items() if made is mean and higher.get(name)
    ]
    for name in (*PREFERRED_METRICS, *usable):
        if name in usable:
            return name
    raise PipelineError(
        f"benchmark task {task.task_name!r} has no metric that is a mean over items with more being better, only "
        f"{sorted(task.aggregation())}: it cannot be compared item by item"
    )


def _set_fewshot(task: Task, num_fewshot: int | None) -> None:
    """As lm-eval's command line does: a task that says 0 itself stays at 0."""
    own = task.get_config("num_fewshot")
    if own is None or (num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=num_fewshot or 0)
    task.set_fewshot_seed(seed=OTHER_SEED)


def _seed() -> None:
    random.seed(PYTHON_SEED)
    np.random.seed(OTHER_SEED)
    torch.manual_seed(OTHER_SEED)


def _first_filter(samples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One sample a document: those of the first answer filter that the task declares."""
    for sample in samples:
        if sample["filter"] == samples[0]["filter"]:
            yield sample


def _logged(item: str, sample: dict[str, Any], *, metric: str) -> Row:
    """What an item's score can be recomputed from; the contexts, long with few-shot examples, by their hash."""
    return {
        "item": item,
        "metric": metric,
        "score": float(sample[metric]),
        "prompt_hash": sample["prompt_hash"],
        "target": str(sample["target"]),
        "choices": [argument[1] for argument in sample["arguments"] if isinstance(argument[1], str)],
        "responses": sample["filtered_resps"],
    }
