"""The metrics that evaluations measure: name, unit, direction. One list for summary, verdict, report and docs."""

from __future__ import annotations

from typing import Literal, NamedTuple

Direction = Literal["higher", "lower", "none"]


class Metric(NamedTuple):
    """One measured quantity; every value of it is a mean over items."""

    unit: str
    direction: Direction
    formula: str


METRICS: dict[str, Metric] = {
    "preference_accuracy": Metric(
        "share",
        "higher",
        "1 where the length-averaged log-prob of chosen exceeds that of rejected, 0.5 where equal, else 0",
    ),
    "preference_margin": Metric(
        "nats per token", "higher", "length-averaged log-prob of chosen minus that of rejected"
    ),
    "preference_accuracy_balanced": Metric(
        "share",
        "higher",
        "`preference_accuracy`, on pairs of which as many have the longer reply chosen as have it rejected",
    ),
    "log_odds_margin": Metric(
        "nats",
        "higher",
        "log odds of chosen minus those of rejected, log(p / (1 - p)) with log p the length-averaged log-prob (ORPO's)",
    ),
    "log_ratio_accuracy": Metric(
        "share", "higher", "1 where `log_ratio_margin` is above 0, 0.5 where it is 0, else 0"
    ),
    "log_ratio_margin": Metric(
        "nats",
        "higher",
        "log-prob of chosen less the base model's, minus the same of rejected (DPO's implicit reward at beta 1)",
    ),
    "chosen_nll": Metric("nats per token", "lower", "minus the length-averaged log-prob of chosen"),
    "chosen_logprob_shift": Metric(
        "nats per token",
        "higher",
        "length-averaged log-prob of chosen minus the base model's; below 0: likelihood displacement",
    ),
    "rejected_logprob_shift": Metric(
        "nats per token", "none", "length-averaged log-prob of rejected minus the base model's"
    ),
    "kl_to_base": Metric(
        "nats per token",
        "none",
        "KL divergence of the model's next-token distribution from the base model's, mean over the tokens of chosen",
    ),
    "kl_to_base_own": Metric(
        "nats per token", "none", "the same, mean over the tokens of the model's own greedy reply"
    ),
    "weights_distance": Metric(
        "share",
        "none",
        "Frobenius norm of the change of all weights over that of the base's, one number a model",
    ),
    "gold_score": Metric("score in [0, 1]", "higher", "the toy world's gold score of the greedy reply"),
    "gold_score_sampled": Metric(
        "score in [0, 1]",
        "higher",
        "the toy world's gold score of the reply sampled at `generation.temperature`",
    ),
    "reply_length_tokens": Metric(
        "tokens", "none", "tokens of the greedy reply, its end of turn not counted"
    ),
    "stopped_share": Metric(
        "share", "higher", "1 where the greedy reply ended by itself, 0 where it was cut"
    ),
    "repetition": Metric(
        "share", "lower", "share of the greedy reply's 4-grams of tokens that stood in it before"
    ),
    "distinct_2": Metric("share", "none", "different bigrams of the greedy reply's tokens over all of them"),
    "longest_loop_tokens": Metric(
        "tokens",
        "lower",
        "the longest stretch of the greedy reply that one block of tokens fills by following itself at once",
    ),
    "empty_share": Metric("share", "lower", "1 where nothing in the greedy reply can be seen, else 0"),
    "refusal_share": Metric(
        "share", "none", "1 where the greedy reply begins as English assistants decline, else 0"
    ),
    "script_drift": Metric(
        "share",
        "lower",
        "1 where most letters of the greedy reply are of another script than those of prompt and chosen reply",
    ),
    "form_drift": Metric(
        "share",
        "lower",
        "1 where the greedy reply has a heading, list, code block or table, and neither prompt nor chosen reply has one",
    ),
}

BENCHMARK_PREFIX = "benchmark_"
# Before a preference metric's name: the same on a sample of the pairs that were trained on.
TRAIN_PREFIX = "train_"
# Before a judge's name.
SCORE_PREFIX, WIN_PREFIX = "score_", "win_rate_"


def is_metric(name: str) -> bool:
    """Whether a column of this name is a metric; else it is raw."""
    return name.removeprefix(TRAIN_PREFIX) in METRICS or name.startswith(
        (BENCHMARK_PREFIX, SCORE_PREFIX, WIN_PREFIX)
    )


def metric(name: str) -> Metric:
    """The metric called `name`; every `benchmark_<task>` is lm-eval's accuracy on that task.

    A `train_<metric>` is that metric on training pairs; `score_<judge>` and `win_rate_<judge>` are what a judge says.

    Raises:
        KeyError: no evaluation measures a metric of this name.
    """
    if name.startswith(BENCHMARK_PREFIX):
        return Metric("share", "higher", f"lm-eval's accuracy on {name.removeprefix(BENCHMARK_PREFIX)}")
    if name.startswith(SCORE_PREFIX):
        return Metric("score", "higher", f"what the judge {name.removeprefix(SCORE_PREFIX)} gives the reply")
    if name.startswith(WIN_PREFIX):
        return Metric(
            "share",
            "higher",
            f"1 where the judge {name.removeprefix(WIN_PREFIX)} prefers the reply to that of SFT alone (of the base, where SFT "
            "alone is no control), 0.5 for a tie, else 0",
        )
    if name.startswith(TRAIN_PREFIX):
        on_test = METRICS[name.removeprefix(TRAIN_PREFIX)]
        return on_test._replace(formula=f"{on_test.formula}, on pairs that were trained on")
    return METRICS[name]
