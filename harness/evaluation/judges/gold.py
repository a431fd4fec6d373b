"""The judge `gold`: the toy world's own scorer."""

from __future__ import annotations

from collections.abc import Sequence

from harness.evaluation.gold import gold_scores
from harness.evaluation.judges.interface import Reply


class Gold:
    """Grades replies in [0, 1] by the toy world's rules."""

    def score(self, replies: Sequence[Reply]) -> list[float]:
        """The gold score of each reply.

        Raises:
            PipelineError: a prompt is not of the toy world.
        """
        scores = gold_scores([one.prompt for one in replies], [one.reply for one in replies])
        return [score.total for score in scores]
