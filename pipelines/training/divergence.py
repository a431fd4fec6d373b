"""When a training has diverged: a rule on its losses that is declared beforehand and judged at every step."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 20  # steps
SHARE_ABOVE = 0.75  # of the window's steps
LEAST_RISE = 3.0  # in the loss' own unit, nats


def divergence_limit(first_loss: float, factor: float) -> float:
    """The loss above which a step counts as gone: `factor` times the first step's, and at least 3 above it.

    The first step's loss is that of the model as it was loaded, whatever the learning rate; for DPO it is ln 2.
    """
    return max(factor * first_loss, first_loss + LEAST_RISE)


def has_diverged(losses: Sequence[float], factor: float) -> bool:
    """Whether 15 of the last 20 steps had a loss above the limit.

    A single spike is none, and batches that happen to be hard are none: it takes most of a whole window.

    Args:
        losses: Of every step up to now.
        factor: More than 1.
    """
    if len(losses) <= WINDOW:
        return False
    limit = divergence_limit(losses[0], factor)
    return sum(loss > limit for loss in losses[-WINDOW:]) >= SHARE_ABOVE * WINDOW
