"""The odds ratio against 60-digit arithmetic, up to probabilities that round to 1."""

from __future__ import annotations

import mpmath
import pytest
import torch

from pipelines.training.odds_ratio import log1mexp, log_odds, odds_ratio_losses
from tests.stock_orpo import needs_stock_orpo

ROUND_TO_ONE = [0.0, -1e-9, -1e-7]  # of which the last does in exp, and is 1 less an epsilon
LOGPROBS = [-60.0, -8.0, -0.7, -0.6931, -0.3, -1e-2, -1e-4, -3e-6]


def exact(chosen: float, rejected: float) -> tuple[float, float, float]:
    """The loss and its slopes by chosen and by rejected."""
    with mpmath.workdps(60):

        def loss(a: mpmath.mpf, b: mpmath.mpf) -> mpmath.mpf:
            odds = [mpmath.exp(x) / (1 - mpmath.exp(x)) for x in (a, b)]
            return mpmath.log(1 + odds[1] / odds[0])

        at = (mpmath.mpf(chosen), mpmath.mpf(rejected))
        slopes = [mpmath.diff(loss, at, order) for order in ((1, 0), (0, 1))]
        return float(loss(*at)), float(slopes[0]), float(slopes[1])


@pytest.mark.parametrize("chosen", LOGPROBS)
@pytest.mark.parametrize("rejected", LOGPROBS)
def test_loss_and_gradient_are_exact_in_float32(chosen: float, rejected: float) -> None:
    values = torch.tensor([[chosen], [rejected]], requires_grad=True)
    loss = odds_ratio_losses(values[0], values[1])
    loss.sum().backward()
    assert values.grad is not None
    found = (float(loss.detach()[0]), float(values.grad[0, 0]), float(values.grad[1, 0]))
    rounded = values.detach().double().flatten().tolist()
    assert found == pytest.approx(exact(*rounded), rel=2e-5, abs=1e-30)


def test_a_probability_that_rounds_to_one_has_finite_odds_and_gradient() -> None:
    values = torch.tensor(ROUND_TO_ONE, requires_grad=True)
    odds = log_odds(values)
    odds.sum().backward()
    assert values.grad is not None
    assert torch.isfinite(odds).all()
    assert torch.isfinite(values.grad).all()
    assert (values.grad > 0).all()


@needs_stock_orpo
def test_the_stock_formula_has_no_finite_gradient_where_a_probability_rounds_to_one() -> None:
    from trl.experimental.orpo.orpo_trainer import log1mexp as stock_log1mexp

    values = torch.tensor(ROUND_TO_ONE, requires_grad=True)
    odds = values - stock_log1mexp(values)
    odds.sum().backward()
    assert values.grad is not None
    assert odds[0] == torch.inf
    assert values.grad.isnan().tolist() == [True, True, False]


def test_log1mexp_at_both_ends() -> None:
    at = [-100.0, -20.0, -0.694, -0.693, -1e-3, -1e-7]
    found = log1mexp(torch.tensor(at, dtype=torch.float64)).tolist()
    with mpmath.workdps(60):
        expected = [float(mpmath.log(1 - mpmath.exp(mpmath.mpf(x)))) for x in at]
    assert found == pytest.approx(expected, rel=1e-14)
