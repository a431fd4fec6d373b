"""Which metrics the configured evaluations measure."""

from __future__ import annotations

from pathlib import Path

from harness.benchmark_tasks import benchmark_name, is_local
from harness.config import Comparison
from harness.matches import reference_opponent
from harness.metrics import BENCHMARK_PREFIX, SCORE_PREFIX, WIN_PREFIX
from pipelines.evaluations import DriftEvaluation, Evaluation, GenerationEvaluation, PreferenceEvaluation
from pipelines.judge_settings import Judge, mode_of

OF_PAIRS = (
    "preference_accuracy",
    "preference_margin",
    "preference_accuracy_balanced",
    "log_odds_margin",
    "log_ratio_accuracy",
    "log_ratio_margin",
    "chosen_nll",
    "chosen_logprob_shift",
    "rejected_logprob_shift",
)
OF_DRIFT = ("kl_to_base", "weights_distance")
OF_REPLIES = (
    "reply_length_tokens",
    "stopped_share",
    "repetition",
    "distinct_2",
    "longest_loop_tokens",
    "empty_share",
    "refusal_share",
    "script_drift",
    "form_drift",
)


def measured_metrics(comparison: Comparison) -> list[str]:
    """Names of the metrics that the configured evaluations measure; of lm-eval's own groups only the group's name."""
    groups = comparison.evaluations
    of_models = [
        name
        for evaluation in (groups.preference, groups.generation, groups.benchmarks, groups.drift)
        if evaluation is not None
        for name in measured_by(evaluation)
    ]
    return of_models + [name for judge in groups.judges for name in _measured_by_judge(comparison, judge)]


def measured_by(evaluation: Evaluation) -> list[str]:
    """Names of the metrics that one evaluation measures."""
    if isinstance(evaluation, PreferenceEvaluation):
        return list(OF_PAIRS)
    if isinstance(evaluation, DriftEvaluation):
        return [*OF_DRIFT, *["kl_to_base_own"] * evaluation.own_replies]
    if isinstance(evaluation, GenerationEvaluation):
        gold = ["gold_score", *["gold_score_sampled"] * evaluation.sampled]
        return [*OF_REPLIES, *(gold if "gold" in evaluation.judges else [])]
    return [
        BENCHMARK_PREFIX + benchmark_name(task)
        for task in evaluation.tasks
        if not is_local(task) or Path(task).is_file()
    ]


def _measured_by_judge(comparison: Comparison, judge: Judge) -> list[str]:
    scores = [SCORE_PREFIX + judge.name] if mode_of(judge) == "score" else []
    return scores + [WIN_PREFIX + judge.name] * (reference_opponent(comparison) is not None)


def is_measured(name: str, comparison: Comparison, measured: list[str]) -> bool:
    """Whether `name` is among the `measured` ones, or may be: some tasks cannot be looked into before they run."""
    if name in measured:
        return True
    benchmarks = comparison.evaluations.benchmarks
    if not name.startswith(BENCHMARK_PREFIX) or benchmarks is None:
        return False
    # A file that is not here cannot be looked into, and a group of lm-eval's own has tasks below it.
    unknown = [task for task in benchmarks.tasks if not (is_local(task) and Path(task).is_file())]
    return any(is_local(task) or name.startswith(BENCHMARK_PREFIX + task) for task in unknown)


def where_measured(name: str) -> str:
    """Which evaluation would measure this metric, in words."""
    if name.startswith("gold"):
        sampled = " and `sampled: true`" if name == "gold_score_sampled" else ""
        return f"generation with `judges: [gold]`{sampled} (toy data)"
    if name in OF_REPLIES:
        return "generation"
    return "preference" if name in OF_PAIRS else "drift"
