"""The form of what `summary.json` says of judges: who won against whom, and what may have misled the judge."""

from __future__ import annotations

from pydantic import Field

from pipelines.stages import Strict


class Rate(Strict):
    """A mean in [0, 1] with its 95 % interval, for other seeds and other prompts."""

    mean: float
    low: float | None = Field(None, description="null with fewer than two seeds or prompts.")
    high: float | None = None


class CategoryRate(Strict):
    """The win rate on the prompts of one category."""

    category: str
    rate: Rate
    num_items: int


class WinRate(Strict):
    """What one judge says of two models, over all seeds that both finished."""

    judge: str
    kind: str = Field(description="How it judges: `gold`, `reward_model`, `llm`, `command` or `plugin`.")
    pair: tuple[str, str]
    rate: Rate = Field(
        description="Mean over seeds and prompts of 1 where the first model's reply wins, 0.5 for a tie, 0 where it loses."
    )
    wins: float = Field(description="Share of matches that the first model wins.")
    ties: float = Field(
        description="Share that neither wins; of a judge asked in both orders also where it contradicts itself."
    )
    losses: float
    num_seeds: int = Field(description="Seeds with a verdict.")
    num_seeds_without_verdict: int = Field(
        0, description="Seeds that were judged and have no verdict at all; they are left out."
    )
    num_items: int = Field(description="Prompts with a verdict in every one of `num_seeds`.")
    num_items_left_out: int = Field(
        0, description="Prompts that were judged and lack a verdict in one of `num_seeds`: left out of all."
    )
    num_unparsable: int = Field(
        0, description="Matches without a verdict, all seeds; they count for neither."
    )
    length_controlled: Rate | None = Field(
        None, description="The win rate that a logistic model expects where both replies are equally long."
    )
    length_effect: float | None = Field(
        None, description="Its coefficient of the length difference: above 0, longer replies win more."
    )
    length_reason: str | None = Field(None, description="Why there is no length-controlled rate.")
    position_bias: Rate | None = Field(
        None,
        description="How often the reply that was shown first won, ties half: 0.5 is none. null: a judge that scores.",
    )
    inconsistent: float | None = Field(
        None,
        description="Share of matches in which the two orders gave other verdicts. null: not asked in both orders.",
    )
    categories: list[CategoryRate] = Field(
        [], description="Where the data has a `category`: the 20 largest at most."
    )


class NoWinRate(Strict):
    """One judge and two models of which it judged matches, without a prompt that has a verdict in every seed."""

    judge: str
    pair: tuple[str, str]
    num_seeds: int = Field(description="Seeds that were judged.")
    num_matches: int
    num_unparsable: int = Field(description="Of them, matches without a verdict.")
