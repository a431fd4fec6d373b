"""The win rate with the replies' lengths held equal: a logistic model with the length difference as a covariate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.intervals import FloatArray
from harness.judged import TIE

# Beyond this a fitted win rate differs from 0 or 1 by less than 1e-6: the data are separated, or nearly so.
LARGEST_COEFFICIENT = 14.0
MOST_ILL_CONDITIONED = 1e12


class LengthControlled(NamedTuple):
    """What the model says.

    Attributes:
        values: (seeds, items): the controlled rate plus each match's influence on it, so that their mean, prompts alike, is
            the rate and their scatter is its uncertainty, over seeds and over prompts.
        effect: Coefficient of the length difference, in log odds a unit of the covariate.
    """

    values: FloatArray
    effect: float


def length_controlled(
    wins: FloatArray, differences: FloatArray, clusters: Sequence[str]
) -> LengthControlled | str:
    """Fit P(win) = sigmoid(a + b * tanh(difference / sd)); the controlled rate is sigmoid(a). Or why it cannot be had.

    As AlpacaEval 2 does, without its terms for a prompt's difficulty, which need many judged models.

    Args:
        wins: (seeds, items), each 1, 0.5 or 0; a tie is half a win (a binomial quasi-likelihood).
        differences: (seeds, items), tokens of the first reply less those of the second.
        clusters: The prompt of each item. All prompts weigh the same, as in the rate beside it.

    References:
        Dubois et al. 2024, arXiv 2404.04475, section 3. Influence of an observation on a maximum-likelihood estimate:
        Huber and Ronchetti, Robust Statistics, section 3.2. Separation: Albert and Anderson 1984, Biometrika 71.
    """
    spread = float(differences.std())
    if spread == 0:
        return "the replies do not differ in length"
    covariate = np.tanh(differences / spread).ravel()
    outcome = wins.ravel()
    if outcome.min() == outcome.max():
        return "every match has the same verdict"
    told = differences[(differences != 0) | (wins != TIE)]  # at equal length a tie is mostly one reply twice
    if told.min() > 0 or told.max() < 0:
        return "one side's replies are the longer in every match, so what equal length would give is not in the data"
    if _separated(covariate, outcome):
        return "length alone tells who wins"
    import statsmodels.api as sm

    design = np.column_stack([np.ones_like(covariate), covariate])
    _, place, sizes = np.unique(np.array(clusters), return_inverse=True, return_counts=True)
    shares = np.broadcast_to(1 / sizes[place], wins.shape).ravel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation is told below
        with np.errstate(all="ignore"):
            fitted = sm.GLM(outcome, design, family=sm.families.Binomial(), var_weights=shares).fit()
    intercept, effect = (float(value) for value in fitted.params)
    expected = np.asarray(fitted.fittedvalues)
    weights = shares * expected * (1 - expected)
    information = design.T @ (weights[:, None] * design) / shares.sum()
    extreme = not np.isfinite(fitted.params).all() or np.abs(fitted.params).max() > LARGEST_COEFFICIENT
    if not fitted.converged or extreme or np.linalg.cond(information) > MOST_ILL_CONDITIONED:
        return "the logistic model does not converge: length nearly tells who wins, or one side wins nearly always"
    influence = ((outcome - expected)[:, None] * design) @ np.linalg.inv(information)[:, 0]
    rate = 1 / (1 + np.exp(-intercept))
    return LengthControlled((rate + rate * (1 - rate) * influence).reshape(wins.shape), effect)


def _separated(covariate: FloatArray, outcome: FloatArray) -> bool:
    """Whether one length divides wins from losses, ties at most on it: the model then has no finite fit."""
    won, lost = covariate[outcome > 0], covariate[outcome < 1]  # a tie is half of each
    return bool(won.min() >= lost.max() or won.max() <= lost.min())
