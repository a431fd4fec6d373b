"""Reasons to doubt a verdict, found by rules in a fixed order: the first that applies stands beside the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from harness.contention import other_load
from harness.costs import training_costs
from harness.numbers import interval, number, p_text, with_interval
from harness.recommendation import is_better
from harness.results import Results
from harness.sentences import MODEL_WORDS, RULE_WORDS, contrast_text
from harness.summary_schema import ModelSummary, Summary
from harness.tuning_doubts import tuning_doubts
from harness.verdict import EQUIVALENT, INCOMPLETE, MIN_SEEDS, PAIRED_FROM, UNFAIR
from pipelines.stages import TrainSettings

FEW_ITEMS = 200
TOKEN_RATIO, LENGTH_RATIO = 1.5, 1.2
NO_BIAS = 0.5
MOST_UNREAD = 0.05  # share of matches without a verdict
LOW_STOPPED, HIGH_CHANGED = 0.9, 0.05
TOLD_ELSEWHERE = "machine_to_itself"  # of the audit's warnings: it speaks of costs, and stands last


def doubts(results: Results, summary: Summary) -> list[str]:
    """Every reason that applies, the strongest first; clauses without a full stop.

    Args:
        results: What the run left.
        summary: Its numbers.
    """
    return [
        *_failures(summary),
        *_rule(results, summary),
        *_other_measure(summary),
        *_few(summary),
        *_controls(summary),
        *_seeds(summary),
        *_replies(summary),
        *_judges(summary),
        *_audit(summary),
        *tuning_doubts(results.plan),
        *_tokens(summary),
        *_data(summary),
        *_code(results),
        *_shared_machine(results),
        *_resident(summary),
    ]


def _failures(summary: Summary) -> Iterator[str]:
    not_run = sum(failure.status == "not_run" for failure in summary.failures)
    failed = len(summary.failures) - not_run
    if failed:
        more = f", and {not_run} that need them were not run" if not_run else ""
        yield f"{_many(failed, 'stage')} failed{more} (see Failures)"
    elif not_run:
        yield f"{_many(not_run, 'stage')} {'has' if not_run == 1 else 'have'} not been run"


def _other_measure(summary: Summary) -> Iterator[str]:
    """The primary quantity measured in another way, such as on sampled replies, that does not say what the verdict says."""
    verdict = summary.verdict
    if verdict.outcome in (INCOMPLETE, UNFAIR):
        return
    for each in summary.secondary:
        longer, shorter = sorted((each.metric, verdict.metric), key=len, reverse=True)
        if each.pair != verdict.compare or not each.detected or not longer.startswith(f"{shorter}_"):
            continue
        better = each.pair[0] if each.difference > 0 else each.pair[1]
        if verdict.outcome == better or (
            verdict.outcome == EQUIVALENT and abs(each.difference) < verdict.margin
        ):
            continue
        said = "says the opposite" if verdict.outcome in verdict.compare else "tells the arms apart"
        yield f"{each.metric} {said}: {better} is better ({contrast_text(each)}, p {p_text(each.p_holm)} by Holm)"


def _few(summary: Summary) -> Iterator[str]:
    verdict = summary.verdict
    if verdict.num_seeds == 0:
        return
    if verdict.num_seeds == 1:
        yield f"a single seed, so no interval for other seeds; {PAIRED_FROM} are the advised minimum"
    elif verdict.num_seeds < PAIRED_FROM:
        yield f"only {verdict.num_seeds} seeds behind the interval; {PAIRED_FROM} are the advised minimum"
    if verdict.num_items < FEW_ITEMS:
        yield f"only {_many(verdict.num_items, 'item')} behind the primary metric; 500 are advised"


def _controls(summary: Summary) -> Iterator[str]:
    for each in summary.baselines:
        arm, control = each.pair
        if arm not in summary.verdict.compare or is_better(each):
            continue
        found = "is worse than" if each.detected else "was not shown to be better than"
        yield f"{arm} {found} {MODEL_WORDS[control]} on {each.metric} ({contrast_text(each)})"


def _resident(summary: Summary) -> Iterator[str]:
    """Where memory is the declared cost and was a process's own."""
    ratio = summary.verdict.cost_ratio
    if ratio is not None and ratio.resident:
        yield "the peak memory is the processes' resident memory on a CPU, libraries included, which says nothing of a GPU's"


def _rule(results: Results, summary: Summary) -> Iterator[str]:
    rule = summary.rule
    if rule is None:
        return
    if rule.status == "after_data":
        yield f"the rule was {RULE_WORDS['after_data']}"
    looks = results.plan.comparison.decision.looks
    if results.plan.num_looks > looks:
        yield (
            f"seeds of nights before were judged before, this is look {results.plan.num_looks} by a rule for "
            f"{_many(looks, 'look')}: each further look adds false verdicts"
        )
    judged = [seeds for seeds in rule.looks if seeds >= MIN_SEEDS]  # with fewer there was no verdict
    if len(judged) > looks:
        yield (
            f"the data were judged with {' and then '.join(map(str, judged))} seeds by a rule for "
            f"{_many(looks, 'look')}: each further look adds false verdicts"
        )


def _seeds(summary: Summary) -> Iterator[str]:
    for seed in summary.outlier_seeds:
        yield (
            f"seed {seed.seed} of {seed.arm} looks like an outlier on {summary.verdict.metric} "
            f"({number(seed.value)}, the other seeds {number(seed.others)})"
        )
    control = summary.aa_control
    if control is not None and control.alarm:
        yield (
            f"the A/A control alarms: {control.arm} differs from itself on other seeds "
            f"({interval(control.low, control.high, signed=True)}); by chance it does so in "
            f"{100 * summary.verdict.alpha:g} % of comparisons"
        )


def _replies(summary: Summary) -> Iterator[str]:
    arms = _compared(summary)
    for arm, model in arms:
        stopped = model.metrics.get("stopped_share")
        if stopped and stopped.mean is not None and stopped.mean < LOW_STOPPED:
            yield f"{number(100 * (1 - stopped.mean))} % of {arm}'s replies were cut at the length limit"
    found = (model.metrics.get("reply_length_tokens") for _, model in arms)
    lengths = [length.mean for length in found if length and length.mean is not None]
    if len(lengths) == 2 and max(lengths) > LENGTH_RATIO * min(lengths):
        yield f"the arms' replies differ in length ({number(lengths[0])} against {number(lengths[1])} tokens)"


def _judges(summary: Summary) -> Iterator[str]:
    for one in summary.win_rates:
        if set(one.pair) != {*summary.verdict.compare}:
            continue
        seeds = one.num_seeds + one.num_seeds_without_verdict
        unread = one.num_unparsable / (seeds * (one.num_items + one.num_items_left_out))
        if unread > MOST_UNREAD:
            yield (
                f"the judge {one.judge} gave no verdict in {number(100 * unread)} % of the arms' matches, and the rate is of the others"
            )
        bias = one.position_bias
        if bias is None or bias.low is None or bias.high is None:
            continue
        if not bias.low <= NO_BIAS <= bias.high:
            yield (
                f"the judge {one.judge} goes by position: the reply that it was shown first won "
                f"{with_interval(bias.mean, bias.low, bias.high)} ({interval(bias.low, bias.high)}) of the matches"
            )


def _audit(summary: Summary) -> Iterator[str]:
    for check in summary.audit.checks if summary.audit else ():
        if check.status == "warning" and check.id != TOLD_ELSEWHERE:
            yield f"the audit warns ({check.id}): {check.evidence}"


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
    changed = (
        (dropped, "were dropped"),
        (summary.data.num_truncated, "had their prompt cut to fit the window"),
    )
    for count, what in changed:
        if count > HIGH_CHANGED * summary.data.num_rows:
            yield f"{count} of {summary.data.num_rows} rows {what}"


def _code(results: Results) -> Iterator[str]:
    records = results.records.values()
    if any(record.git_commit and record.git_commit.endswith("-dirty") for record in records):
        yield "stages ran from code with changes that were not committed"
    if len({tuple(sorted(record.versions.items())) for record in records}) > 1:
        yield "stages ran with different library versions"
    if len({record.machine for record in records if isinstance(record.stage.settings, TrainSettings)}) > 1:
        yield "training stages ran on different machines"


def _shared_machine(results: Results) -> Iterator[str]:
    costs = training_costs(results)
    if contended := [cost for cost in costs if cost.contended is True]:
        yield (
            f"the machine was shared while {len(contended)} of {_many(len(costs), 'training stage')} ran "
            f"({other_load(contended)}): the costs are unreliable"
        )


def _compared(summary: Summary) -> list[tuple[str, ModelSummary]]:
    return [(name, summary.arms[name]) for name in summary.verdict.compare if name in summary.arms]


def _many(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'s' * (number_of != 1)}"
