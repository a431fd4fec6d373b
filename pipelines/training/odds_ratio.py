"""ORPO's odds-ratio loss, from length-averaged log-probs.

References:
    Hong et al. 2024, arXiv 2403.07691, equations 3 to 7.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LN_2 = 0.6931471805599453


def odds_ratio_losses(chosen_b: Tensor, rejected_b: Tensor) -> Tensor:
    """`-log sigmoid(log odds(chosen) - log odds(rejected))` of each pair, odds = p / (1 - p).

    Args:
        chosen_b: Mean log-prob of the chosen completion's tokens, at most 0: (pairs,).
        rejected_b: The same of the rejected one.
    """
    return -functional.logsigmoid(log_odds(chosen_b) - log_odds(rejected_b))


def log_odds(logprob: Tensor) -> Tensor:
    """`log(p / (1 - p))` from `log p`.

    Rounding can make p exactly 1, where odds are infinite and their gradient is not a number. There, the value and the
    slope are those at the next smaller p: a finite pull in the right direction.
    """
    last = -torch.finfo(logprob.dtype).eps
    below_one = logprob + (logprob.clamp(max=last) - logprob).detach()
    return below_one - log1mexp(below_one)


def log1mexp(x: Tensor) -> Tensor:
    """`log(1 - exp(x))` for x below 0, accurate at both ends.

    Each branch is fed only values at which it is finite: `where` alone would let the other branch's gradient, infinite
    near 0, turn the sum of both into NaN.
    """
    near_zero = x > -_LN_2
    large = torch.log(-torch.expm1(torch.where(near_zero, x, -_LN_2)))
    small = torch.log1p(-torch.exp(torch.where(near_zero, -_LN_2, x)))
    return torch.where(near_zero, large, small)
