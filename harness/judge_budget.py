"""What judge models will cost, said before anything runs: requests, the tokens to expect, the cap. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.config import Comparison
from harness.evaluation.judges.tokens import about_tokens
from harness.evaluation.judges.verdicts import messages
from harness.hostile import terminal
from harness.matches import num_matches
from pipelines.judge_settings import LlmJudge

if TYPE_CHECKING:
    from pipelines.data.inspect import Inspection


def judge_budget_lines(comparison: Comparison) -> Iterator[str]:
    """A line for each judge model; the data are read only where there is one.

    Raises:
        UserError: the data cannot serve.
    """
    judges = [judge for judge in comparison.evaluations.judges if isinstance(judge, LlmJudge)]
    if not judges:
        return
    from harness.check import look_at_data

    found = look_at_data(comparison)
    for judge in judges:
        yield terminal(f"judge {judge.name}: {judge_budget(comparison, judge, found)}")


def judge_budget(comparison: Comparison, judge: LlmJudge, found: Inspection | None) -> str:
    """What a judge model may cost, in words; answers that are kept cost nothing.

    Args:
        comparison: Says which models meet on how many prompts.
        judge: Which judge.
        found: What the data hold; None where they are not on this machine.
    """
    runs, num_items = num_matches(comparison), _num_items(comparison, found)
    cap = f"it stops at {judge.token_cap:,} tokens (token_cap)"
    asked = f"{judge.model} at {judge.base_url}"
    if num_items is None:
        return terminal(
            f"{asked}: two requests for each prompt and each of {runs} matches of two models; {cap}"
        )
    num_requests = 2 * runs * num_items
    requests = (
        f"at most {num_requests:,} requests ({runs} matches of two models, {num_items} prompts, both orders)"
    )
    if found is None:
        return terminal(f"{asked}: {requests}; {cap}")
    expected = num_requests * _tokens_of_one(comparison, judge, found)
    tokens = f"about {expected:,} tokens where replies are as long as the data's"
    more = "; raise it" if expected > judge.token_cap else ""
    return terminal(f"{asked}: {requests}, {tokens}; {cap}{more}")


def _num_items(comparison: Comparison, found: Inspection | None) -> int | None:
    """How many prompts are answered at most; None where nothing bounds them."""
    generation = comparison.evaluations.generation
    assert generation is not None
    bounds = [generation.max_items, getattr(comparison.data, f"max_{generation.split}_pairs")]
    bounds += [found.splits[generation.split]] if found else []
    return min((bound for bound in bounds if bound is not None), default=None)


def _tokens_of_one(comparison: Comparison, judge: LlmJudge, found: Inspection) -> int:
    """A request about texts of the split's mean lengths, with its answer."""
    generation = comparison.evaluations.generation
    assert generation is not None
    prompt, reply = ("x" * round(length) for length in found.mean_bytes(generation.split))
    return about_tokens(judge, messages(judge.instructions, prompt, reply, reply))
