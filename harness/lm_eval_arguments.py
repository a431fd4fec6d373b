"""Arguments of lm-eval that a config may not set, each with why or what to write instead. Imports no lm-eval."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.evaluations import BenchmarkEvaluation

# Of `lm_eval.simple_evaluate` 0.4.13; all others are keys of `evaluations.benchmarks`.
REFUSED = {
    "model": "Every model of the comparison is evaluated",
    "device": "Write the config's own `device`",
    "max_batch_size": "Batches are of `batch_size`, the same for every model",
    "use_cache": "Answers are kept by stage",
    "cache_requests": "What a task asks is made anew, so that a changed file counts",
    "rewrite_requests_cache": "What a task asks is made anew, so that a changed file counts",
    "delete_requests_cache": "What a task asks is made anew, so that a changed file counts",
    "bootstrap_iters": "Intervals come from seeds and items (docs/decisions/verdict.md)",
    "check_integrity": "It runs lm-eval's own tests",
    "write_out": "samples.jsonl has every item",
    "log_samples": "samples.jsonl always has every item",
    "evaluation_tracker": "Results are the stage's files",
    "task_manager": "Name a local task by the path of its YAML file",
    "verbosity": "lm-eval writes to the stage's log.txt",
    "predict_only": "A benchmark needs a score for each item",
}


def broken_benchmark_rules(evaluation: BenchmarkEvaluation) -> Iterator[tuple[str, str]]:
    """Key below `evaluations.benchmarks` and what is wrong with it, for combinations that cannot be meant."""
    given = evaluation.model_fields_set
    limit = evaluation.limit
    if limit is not None and limit > 1 and limit != int(limit):
        yield "limit", f"must be a whole number, or a share below 1, got {limit:g}."
    if limit is not None and evaluation.samples:
        yield "limit", "must not be given with samples: those say which items are used."
    for task, numbers in evaluation.samples.items():
        if not numbers or min(numbers) < 0:
            yield f"samples.{task}", "must list numbers of items, from 0."
    if not evaluation.apply_chat_template:
        if "fewshot_as_multiturn" in given:
            yield "fewshot_as_multiturn", "must not be given without apply_chat_template: only it has turns."
        for key in ("chat_template_args", "enable_thinking"):
            if getattr(evaluation.model_args, key):
                yield f"model_args.{key}", "must not be given without apply_chat_template."
    if evaluation.model_args.enable_thinking and not evaluation.model_args.think_end_token:
        yield (
            "model_args.think_end_token",
            "must be given with `enable_thinking: true`: it ends the thinking.",
        )
