"""The judge `gold`: the toy world's own scorer, which knows the truth."""

from __future__ import annotations

from pipelines.errors import PipelineError
from pipelines.toy.gold import GoldScore, score


def gold_scores(prompts: list[str], replies: list[str]) -> list[GoldScore]:
    """Grade each reply to the prompt beside it.

    Raises:
        PipelineError: a prompt is not of the toy world.
    """
    try:
        return [score(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    except ValueError as error:
        raise PipelineError(f"the judge `gold` grades the toy world's prompts only: {error}") from error
