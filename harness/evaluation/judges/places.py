"""Which of two replies a judge that sees one order alone sees first: drawn, so that no model always has the better place."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from harness.evaluation.judges.interface import Judgement, Match, checked_win, in_short
from pipelines.errors import PipelineError


def shown(match: Match) -> Match:
    """The match as it is shown: its replies in the drawn places."""
    return replace(match, first=match.second, second=match.first) if _turned(match) else match


def turned_back(match: Match, said: Any, where: str) -> Judgement:
    """What was said of `shown(match)`, from the side of the match's first reply, with the place that it stood in.

    Args:
        match: As it was before it was shown.
        said: The judge's verdict.
        where: Begins the error: which judge, which item.

    Raises:
        PipelineError: it is no judgement, or holds a win that is neither 1, 0.5, 0 nor None, not two of them by order, or
            answers that are no texts.
    """
    if not isinstance(said, Judgement):
        raise PipelineError(f"{where}: must be a Judgement, got {type(said).__name__}")
    by_order: Any = (said.win, None) if said.by_order is None else said.by_order
    if not isinstance(by_order, tuple | list) or len(by_order) != 2:
        raise PipelineError(f"{where}: by_order must be two wins, got {in_short(by_order)}")
    if not isinstance(said.answers, tuple | list) or not all(isinstance(one, str) for one in said.answers):
        raise PipelineError(f"{where}: answers must be texts, got {in_short(said.answers)}")
    win, first, last = (checked_win(one, where) for one in (said.win, *by_order))
    if not _turned(match):
        return replace(said, win=win, by_order=(first, last))
    return replace(said, win=_other(win), by_order=(_other(last), _other(first)))


def _turned(match: Match) -> bool:
    """Drawn by a hash of item and texts, whichever model comes first: the same two replies are always shown alike."""
    texts = sorted((match.first, match.second))
    drawn = hashlib.sha256(repr((match.item, *texts)).encode()).digest()[0] % 2
    return match.first != texts[drawn]


def _other(win: float | None) -> float | None:
    return None if win is None else 1 - win
