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
from pipelines.data.prepared import read_outcome, read_tokenizer
from pipelines.errors import PipelineError
from pipelines.evaluations import BenchmarkEvaluation
from pipelines.stages import Observer

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = "samples.jsonl"
# The score of an item, where a task has several: the first of these that it lists, else its first usable one.
PREFERRED_METRICS = ("acc", "acc_norm", "exact_match")
GENERATES = "generate_until"


def measure_benchmarks(
    model: PreTrainedModel, evaluation: BenchmarkEvaluation, data: Path, *, observer: Observer
) -> Measured:
    """Run the tasks of `evaluation`.

    Args:
        model: The policy, in eval mode.
        evaluation: Which tasks, how many items, how they are asked.
        data: Folder of the stage that prepared the data; its tokenizer and its ends of a turn are used.
        observer: Told of phases and progress.

    Raises:
        PipelineError: a task is unknown, its files are missing, it has no score for single items, or an argument has no use.
    """
    with observer.phase("data"):
        tokenizer = read_tokenizer(data)
        benchmarks = load_benchmarks(evaluation.tasks, metadata=evaluation.metadata)
        ends = read_outcome(data).end_of_turn_ids
    with observer.phase("evaluate"):
        return run_benchmarks(model, tokenizer, benchmarks, evaluation=evaluation, end_of_turn_ids=ends)


def run_benchmarks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: list[Benchmark],
    *,
    evaluation: BenchmarkEvaluation,
    end_of_turn_ids: list[int],
) -> Measured:
    """Score `model` on all `benchmarks` in one call of lm-eval.

    Args:
        model: The policy, in eval mode.
        tokenizer: Has the chat template.
        benchmarks: From `load_benchmarks`.
        evaluation: How they are asked.
        end_of_turn_ids: What is generated ends at any of these tokens, whatever else a task stops at.

    Returns:
        One row an item, `<task>/<number in the task>`, with the column of the benchmark that it belongs to; and the
        samples: what was asked of the model and what came back.

    Raises:
        PipelineError: a task has no score for single items, or an argument has no use.
    """
    tasks: dict[str, Task] = {task.task_name: task for found in benchmarks for task in found.tasks}
    metrics = {name: item_metric(task) for name, task in tasks.items()}
    _check_use(evaluation, tasks, tokenizer)
    for task in tasks.values():
        _set_up(task, evaluation, end_of_turn_ids)
    samples = _asked(model, tokenizer, tasks, evaluation)
    items: list[Row] = []
    logs: list[Row] = []
    for benchmark in benchmarks:
        column = BENCHMARK_PREFIX + benchmark.name
        for task in benchmark.tasks:
            metric = metrics[task.task_name]
            for sample in _first_filter(samples[task.task_name]):
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


def _asked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: dict[str, Task],
    evaluation: BenchmarkEvaluation,
) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's samples of each task: what was asked, what came back, every metric."""
    random.seed(evaluation.random_seed)
    np.random.seed(evaluation.numpy_random_seed)
    torch.manual_seed(evaluation.torch_random_seed)
    plain = without_adapter_wrapper(model)
    as_lm_eval = HFLM(
        pretrained=plain,
        tokenizer=tokenizer,
        batch_size=evaluation.batch_size,
        **evaluation.model_args.model_dump(),
    )
    with neutral_generation(plain):
        # Not `simple_evaluate`: for 1.7 s it lists the machine's packages, drivers and the repository's state.
        found = run_lm_eval(
            as_lm_eval,
            {"tasks": tasks, "groups": {}, "group_map": {}},
            limit=evaluation.limit,
            # In the order of the documents: lm-eval numbers its samples by this list.
            samples={task: sorted(set(numbers)) for task, numbers in evaluation.samples.items()} or None,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=evaluation.apply_chat_template,
            fewshot_as_multiturn=evaluation.fewshot_as_multiturn,
            system_instruction=evaluation.system_instruction,
            confirm_run_unsafe_code=evaluation.confirm_run_unsafe_code,
        )
    samples: dict[str, list[dict[str, Any]]] = found["samples"]
    return samples


def _check_use(
    evaluation: BenchmarkEvaluation, tasks: dict[str, Task], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse what lm-eval would pass over, or answer in many lines."""
    where = "evaluations.benchmarks"
    if evaluation.apply_chat_template and not tokenizer.chat_template:
        raise PipelineError(
            f"{where}.apply_chat_template: the tokenizer has no chat template. Give one in model.chat_template"
        )
    if evaluation.gen_kwargs and not any(_generates(task) for task in tasks.values()):
        raise PipelineError(f"{where}.gen_kwargs: none of the tasks generates ({', '.join(tasks)})")
    for name, numbers in evaluation.samples.items():
        if name not in tasks:
            raise PipelineError(
                f"{where}.samples: {name!r} is none of the tasks that run ({', '.join(tasks)})"
            )
        if max(numbers) >= (there := len(tasks[name].eval_docs)):
            raise PipelineError(
                f"{where}.samples: {name} has {there} items, counted from 0: no {max(numbers)}"
            )


def _generates(task: Task) -> bool:
    return bool(task.get_config("output_type") == GENERATES)


def _set_up(task: Task, evaluation: BenchmarkEvaluation, end_of_turn_ids: list[int]) -> None:
    """As lm-eval's command line does: a task that says 0 examples itself stays at 0."""
    own = task.get_config("num_fewshot")
    if own is None or (evaluation.num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=evaluation.num_fewshot or 0)
    if _generates(task):
        # The checkpoint's own ends went with its other settings; `until` knows the tokenizer's EOS alone.
        arguments = {"eos_token_id": end_of_turn_ids} | evaluation.gen_kwargs
        task.set_config(key="generation_kwargs", value=arguments, update=True)
    task.set_fewshot_seed(seed=evaluation.fewshot_random_seed)


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
