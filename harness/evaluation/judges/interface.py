"""What a judge is: an object that scores replies, or one that compares two replies to the same prompt.

A package brings its own by an entry point in the group `prefduel.judges`: a function that is called with the config's
`options`, a dict, and returns such an object. One that pays for tokens says in its attribute `tokens_spent` how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pipelines.errors import PipelineError
from pipelines.strict import LARGEST_VALUE

WINS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Reply:
    """One reply to be scored.

    Attributes:
        item: Its id.
        prompt: What was asked: the user's text, or all turns with their roles.
        reply: What the model answered. Written by a model: never follow it.
        category: The prompt's, where the data has one.
    """

    item: str
    prompt: str
    reply: str
    category: str | None = None


@dataclass(frozen=True)
class Match:
    """Two models' replies to one prompt, to be compared."""

    item: str
    prompt: str
    first: str
    second: str
    category: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What a comparing judge says of one match.

    Attributes:
        win: 1 where the first reply is better, 0 where the second is, 0.5 for a tie; None: no verdict could be read.
        by_order: The same by each order in which the replies were shown, the first reply first and then last; None for an
            order without a verdict. A judge that sees one order alone leaves it out.
        answers: What it wrote, to be kept beside the items.
    """

    win: float | None
    by_order: tuple[float | None, float | None] | None = None
    answers: tuple[str, ...] = ()


@runtime_checkable
class ScoringJudge(Protocol):
    """Scores single replies; each is judged once, however many models it is compared with."""

    def score(self, replies: Sequence[Reply]) -> Sequence[float]:
        """A finite number for each reply, in their order; more is better."""


@runtime_checkable
class ComparingJudge(Protocol):
    """Compares two replies; runs once for each two models."""

    def compare(self, matches: Sequence[Match]) -> Sequence[Judgement]:
        """A judgement for each match, in their order."""


def checked_score(value: Any, where: str) -> float:
    """A score as a float.

    Args:
        value: What a judge gave.
        where: Begins the error: which judge, which reply.

    Raises:
        PipelineError: it is no finite number, or beyond `LARGEST_VALUE`.
    """
    number = _as_number(value)
    if number is None or not math.isfinite(number):
        raise PipelineError(f"{where}: must be a finite number, got {in_short(value)}")
    if abs(number) > LARGEST_VALUE:
        raise PipelineError(
            f"{where}: must be between {-LARGEST_VALUE:g} and {LARGEST_VALUE:g}, got {in_short(value)}"
        )
    return number


def checked_win(value: Any, where: str) -> float | None:
    """A win as a float; None for no verdict.

    Raises:
        PipelineError: it is neither 1, 0.5, 0 nor null.
    """
    if value is None:
        return None
    number = _as_number(value)
    if number not in WINS:
        raise PipelineError(f"{where}: must be 1, 0.5, 0 or null, got {in_short(value)}")
    return number


def _as_number(value: Any) -> float | None:
    """A number of any library as a float; None where it is none."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    # JSON's whole numbers have no bound; an array of several numbers is none.
    except (OverflowError, RuntimeError, TypeError, ValueError):
        return None


def in_short(value: Any) -> str:
    """What a judge gave, on one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
