"""Reasons to doubt a verdict, found by rules in a fixed order: the first that applies stands beside the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from harness.metrics import metric
from harness.numbers import number
from harness.results import Results
from harness.summary_schema import ModelSummary, Summary
from harness.verdict import PAIRED_FROM
from pipelines.stages import TrainSettings

FEW_ITEMS = 200
TOKEN_RATIO, LENGTH_RATIO = 1.5, 1.2
LOW_STOPPED, HIGH_DROPPED = 0.9, 0.05


def doubts(results: Results, summary: Summary) -> list[str]:
    """Every reason that applies, the strongest first; clauses without a full stop.

    Args:
        results: What the run left.
        summary: Its numbers.
    """
    return [
        *_failures(summary),
        *_few(summary),
        *_against_sft(summary),
        *_replies(summary),
        *_one_point(results),
        *_tokens(summary),
        *_data(summary),
        *_code(results),
    ]


def _failures(summary: Summary) -> Iterator[str]:
    not_run = sum(failure.status == "not_run" for failure in summary.failures)
    failed = len(summary.failures) - not_run
    if failed:
        more = f", and {not_run} that need them were not run" if not_run else ""
        yield f"{_many(failed, 'stage')} failed{more} (see Failures)"
    elif not_run:
        yield f"{_many(not_run, 'stage')} have not been run"


def _few(summary: Summary) -> Iterator[str]:
    verdict = summary.verdict
    if verdict.num_seeds == 0:
        return
    if verdict.num_seeds < PAIRED_FROM:
        yield f"only {_many(verdict.num_seeds, 'seed')} behind the interval; {PAIRED_FROM} are the advised minimum"
    if verdict.num_items < FEW_ITEMS:
        yield f"only {_many(verdict.num_items, 'item')} behind the primary metric; 500 are advised"


def _against_sft(summary: Summary) -> Iterator[str]:
    sft = summary.controls.get("sft")
    name = summary.verdict.metric
    if sft is None or name not in sft.metrics:
        return
    sign = -1 if metric(name).direction == "lower" else 1
    alone = sft.metrics[name].mean
    for arm, model in _compared(summary):
        if name in model.metrics and sign * model.metrics[name].mean <= sign * alone:
            yield (
                f"{arm} is not above SFT alone on {name} ({number(model.metrics[name].mean)} against {number(alone)})"
            )


def _replies(summary: Summary) -> Iterator[str]:
    arms = _compared(summary)
    for arm, model in arms:
        stopped = model.metrics.get("stopped_share")
        if stopped and stopped.mean < LOW_STOPPED:
            yield f"{number(100 * (1 - stopped.mean))} % of {arm}'s replies were cut at the length limit"
    lengths = [
        model.metrics["reply_length_tokens"].mean
        for _, model in arms
        if "reply_length_tokens" in model.metrics
    ]
    if len(lengths) == 2 and max(lengths) > LENGTH_RATIO * min(lengths):
        yield f"the arms' replies differ in length ({number(lengths[0])} against {number(lengths[1])} tokens)"


def _one_point(results: Results) -> Iterator[str]:
    names = " and ".join(results.plan.comparison.decision.compare)
    yield (
        f"{names} ran at one setting of their hyperparameters each; how well either is tuned was not measured"
    )


def _tokens(summary: Summary) -> Iterator[str]:
    seen = [(arm, model.cost.num_policy_tokens) for arm, model in _compared(summary)]
    if len(seen) == 2 and all(tokens for _, tokens in seen):
        (less, few), (more, many) = sorted(seen, key=lambda pair: pair[1] or 0)
        if few and many and many > TOKEN_RATIO * few:
            yield f"the budgets differ: {more} put {number(many / few)} times the tokens of {less} through its policy"


def _data(summary: Summary) -> Iterator[str]:
    if summary.data is None:
        return
    dropped = sum(reason.num_rows for reason in summary.data.dropped)
    if dropped > HIGH_DROPPED * summary.data.num_rows:
        yield f"{dropped} of {summary.data.num_rows} rows were dropped"


def _code(results: Results) -> Iterator[str]:
    records = results.records.values()
    if any(record.git_commit and record.git_commit.endswith("-dirty") for record in records):
        yield "stages ran from code with changes that were not committed"
    if len({tuple(sorted(record.versions.items())) for record in records}) > 1:
        yield "stages ran with different library versions"
    if len({record.machine for record in records if isinstance(record.stage.settings, TrainSettings)}) > 1:
        yield "training stages ran on different machines"


def _compared(summary: Summary) -> list[tuple[str, ModelSummary]]:
    return [(name, summary.arms[name]) for name in summary.verdict.compare if name in summary.arms]


def _many(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'s' * (number_of != 1)}"
