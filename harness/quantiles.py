"""Quantiles and tails of the distributions behind the intervals.

scipy.special has what scipy.stats wraps: the same numbers, loaded in a fifth of the time and called in a twentieth, which a
report of a thousand trials feels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = float | NDArray[np.float64]


def t_above(tail: Values, df: Values) -> NDArray[np.float64]:
    """What Student's t with `df` degrees of freedom exceeds with probability `tail`; arrays are broadcast."""
    return np.asarray(-special.stdtrit(df, tail), dtype=np.float64)


def t_tail(value: Values, df: Values) -> NDArray[np.float64]:
    """The probability that Student's t exceeds `value`; arrays are broadcast."""
    return np.asarray(special.stdtr(df, -np.asarray(value)), dtype=np.float64)


def chi_square_below(share: float, df: float) -> float:
    """What a chi-square with `df` degrees of freedom stays below with probability `share`."""
    return float(2 * special.gammaincinv(df / 2, share))


def normal_below(value: float) -> float:
    """The probability that a standard normal stays below `value`."""
    return float(special.ndtr(value))
