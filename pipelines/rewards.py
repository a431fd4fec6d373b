"""What follows from the log-probs of a pair's two replies: three rewards, and the pairs that are balanced in length."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

# The log odds of a reply are infinite at a log-prob of 0; fp32 cannot tell it from this one.
LARGEST_MEAN = -1e-7
# Pairs are balanced among those whose relative difference in length falls into the same of so many bins.
LENGTH_BINS = 10


@dataclass(frozen=True)
class PairLogprobs:
    """Summed log-probs of both replies in nats, and their tokens."""

    chosen_sum: float
    rejected_sum: float
    num_chosen: int
    num_rejected: int

    @property
    def chosen_mean(self) -> float:
        """Log-prob of chosen, averaged over its tokens."""
        return self.chosen_sum / self.num_chosen

    @property
    def rejected_mean(self) -> float:
        """Log-prob of rejected, averaged over its tokens."""
        return self.rejected_sum / self.num_rejected


def raw_columns(pair: PairLogprobs) -> dict[str, float]:
    """What every other column is made of."""
    return {
        "chosen_logprob_sum": pair.chosen_sum,
        "rejected_logprob_sum": pair.rejected_sum,
        "chosen_logprob_mean": pair.chosen_mean,
        "rejected_logprob_mean": pair.rejected_mean,
        "num_chosen_tokens": pair.num_chosen,
        "num_rejected_tokens": pair.num_rejected,
    }


def own_columns(pair: PairLogprobs) -> dict[str, float]:
    """The metrics that need no other model.

    References:
        The log odds: ORPO, arXiv 2403.07691, equation 4, from the length-averaged log-prob.
    """
    margin = pair.chosen_mean - pair.rejected_mean
    return {
        "preference_accuracy": accuracy(margin),
        "preference_margin": margin,
        "log_odds_margin": log_odds(pair.chosen_mean) - log_odds(pair.rejected_mean),
        "chosen_nll": -pair.chosen_mean,
    }


def against_base(pair: PairLogprobs, base: PairLogprobs) -> dict[str, float]:
    """The metrics that compare with the untouched base model on the same pair.

    References:
        The log-ratio is DPO's implicit reward at beta 1: arXiv 2305.18290, section 5.
    """
    margin = (pair.chosen_sum - base.chosen_sum) - (pair.rejected_sum - base.rejected_sum)
    return {
        "log_ratio_accuracy": accuracy(margin),
        "log_ratio_margin": margin,
        "chosen_logprob_shift": pair.chosen_mean - base.chosen_mean,
        "rejected_logprob_shift": pair.rejected_mean - base.rejected_mean,
    }


def accuracy(margin: float) -> float:
    """1 where chosen is preferred, 0.5 where neither is, else 0; NaN stays NaN."""
    if math.isnan(margin):
        return margin
    return 0.5 if margin == 0 else float(margin > 0)


def log_odds(logprob: float) -> float:
    """log(p / (1 - p)) of a probability that is given by its logarithm."""
    logprob = min(logprob, LARGEST_MEAN) if not math.isnan(logprob) else logprob
    return logprob - math.log(-math.expm1(logprob))


def length_balanced(pairs: Sequence[PairLogprobs]) -> list[int]:
    """Places of pairs among which chosen is as often longer as it is shorter, by about as much.

    The pairs are sorted into bins by their relative difference in length; of each bin the first so many are taken of
    either kind as the rarer kind has. Pairs of equal length are all taken. Depends on lengths alone: it is the same
    choice for every model.
    """
    longer: dict[int, list[int]] = defaultdict(list)
    shorter: dict[int, list[int]] = defaultdict(list)
    taken: list[int] = []
    for place, pair in enumerate(pairs):
        difference = pair.num_chosen - pair.num_rejected
        if difference == 0:
            taken.append(place)
            continue
        share = abs(difference) / max(pair.num_chosen, pair.num_rejected)
        (longer if difference > 0 else shorter)[int(share * LENGTH_BINS)].append(place)
    for bin_number, places in longer.items():
        others = shorter[bin_number]
        count = min(len(places), len(others))
        taken += places[:count] + others[:count]
    return sorted(taken)
