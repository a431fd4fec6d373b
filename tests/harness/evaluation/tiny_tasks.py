"""Local tasks of lm-eval for the tiny models, run by us and by lm-eval itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel

from harness.evaluation.benchmarks import run_benchmarks
from harness.evaluation.items import Measured, outcome_of
from harness.evaluation.tasks import load_benchmarks
from pipelines.evaluations import BenchmarkEvaluation
from tests.harness.evaluation import tiny_models

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: rows.jsonl, train: rows.jsonl}}}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: 0
doc_to_choice: "{{{{[good, bad]}}}}"
metric_list:
  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}
"""
GENERATE = """
task: copy
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl, train: rows.jsonl}}
test_split: test
fewshot_split: train
output_type: generate_until
generation_kwargs: {until: ["w7"], max_gen_toks: 4}
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
filter_list:
  - name: first
    filter: [{function: regex, regex_pattern: "(w[0-9]+)"}, {function: take_first}]
  - name: never
    filter: [{function: regex, regex_pattern: "(never)"}, {function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def write_tasks(folder: Path) -> None:
    """Tasks of two choices, `one` and `two`, a group of `both`, a task that generates, `copy`, and their rows."""
    ids = tiny_models.random_ids(*[3, 5, 2] * 16, *[4, 1, 6] * 16)
    words = [" ".join(f"w{i}" for i in one) for one in ids]
    rows = [
        {"question": words[i], "good": words[-1 - i], "bad": words[-20 - i], "answer": f"w{2 + i}"}
        for i in range(24)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "one.yaml").write_text(CHOICE.format(name="one", metric="acc"))
    (folder / "two.yaml").write_text(CHOICE.format(name="two", metric="acc_norm"))
    (folder / "copy.yaml").write_text(GENERATE)
    (folder / "both.yaml").write_text(
        "group: both\ntask: [one, two]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )


def run(
    tasks: list[Path], model: PreTrainedModel | None = None, *, ends: tuple[int, ...] = (), **settings: Any
) -> Measured:
    evaluation = BenchmarkEvaluation(tasks=[str(task) for task in tasks], **settings)
    return run_benchmarks(
        model or tiny_models.llama(),
        tiny_models.chat_tokenizer(),
        load_benchmarks(evaluation.tasks, metadata=evaluation.metadata),
        evaluation=evaluation,
        end_of_turn_ids=[tiny_models.EOS, *ends],
    )


def means(measured: Measured) -> dict[str, float]:
    return outcome_of("benchmarks", measured.items).means


def lm_evals_own(folder: Path, name: str, *, model: PreTrainedModel, **arguments: Any) -> dict[str, Any]:
    """The numbers and the prompts of one task."""
    return lm_evals_numbers(folder, [name], model=model, **arguments)[name]


def lm_evals_numbers(
    folder: Path,
    names: list[str],
    *,
    model: PreTrainedModel,
    model_args: dict[str, Any] | None = None,
    **arguments: Any,
) -> dict[str, dict[str, Any]]:
    """The numbers of lm-eval's front door, run from the folder in which the tasks' files lie, and what it asked."""
    found = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tiny_models.chat_tokenizer(), batch_size=3, **(model_args or {})),
        tasks=list(names),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **arguments,
    )
    assert found is not None
    return {
        name: found["results"][name]
        | {
            "prompts": [sample["prompt_hash"] for sample in found["samples"].get(name, [])],
            "asked": [sample["arguments"][0][0] for sample in found["samples"].get(name, [])],
        }
        for name in names
    }


def answer_as_the_model_does(path: Path, model: PreTrainedModel, *, template: bool = False) -> None:
    """Make the model's likeliest next word the right answer in every second row."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[::2]:
        text = f"w4 {row['question']} <eos> w5 " if template else row["question"]
        ids = tiny_models.tokenizer()(text, return_tensors="pt").input_ids
        row["answer"] = f"w{int(model(ids).logits[0, -1].argmax())}"
    for row in rows[1::2]:
        row["answer"] = "none"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
