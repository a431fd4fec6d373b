"""How many steps each stage of an arm may take so that all arms spend the same: `budget.match`.

The yardstick arm's own epochs or steps set the amount. Another arm's stages share it in the proportion of what they would
spend by their own; at the rounding to whole steps a stage makes up for those before it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from harness.config import ArmStage, Comparison
from harness.differences import argument
from harness.errors import UserError
from harness.plan import Plan
from pipelines.data.splitting import share_size
from pipelines.outcomes import CalibrateOutcome, DataOutcome, SplitCount

CONVERTED = ("pairs", "tokens", "seconds")  # what is turned into steps, by what records tell
TOLERANCE = 0.01  # the audit's
# Arguments that change no step's time: stages that differ in these alone are timed once.
UNTIMED = ("learning_rate", "beta", "num_train_epochs", "max_steps")


@dataclass(frozen=True)
class Costs:
    """What a stage spends, as far as it is known before it is trained.

    Attributes:
        own_steps: Optimizer steps by the stage's own settings.
        of: Number of steps to the amount that they spend, in the budget's unit; grows with the steps.
    """

    own_steps: int
    of: Callable[[int], float]


@dataclass(frozen=True)
class Allotment:
    """What a stage may spend.

    Attributes:
        max_steps: Steps; None: as its own settings say. With `max_tokens` an expectation, which the stage corrects.
        max_tokens: Tokens of the arm up to this stage's end.
    """

    max_steps: int | None = None
    max_tokens: int | None = None


def is_converted(comparison: Comparison) -> bool:
    """Whether steps follow from records that the config alone does not give."""
    return comparison.budget.match in CONVERTED


def yardstick(comparison: Comparison) -> str:
    """The arm that sets the budget."""
    return comparison.budget.yardstick or next(iter(comparison.arms))


def costs_of(
    comparison: Comparison, stage: ArmStage, rows: SplitCount, calibration: CalibrateOutcome | None
) -> Costs:
    """What a stage spends by the number of its steps.

    Args:
        comparison: The config.
        stage: A stage of one of its arms.
        rows: The pairs that it trains on.
        calibration: Its steps' times; needed for `seconds`.
    """
    batch = comparison.training.effective_batch
    arguments = {**comparison.training.arguments, **stage.arguments}
    steps_an_epoch = math.ceil(rows.num_pairs / batch)
    own = int(argument(arguments, "max_steps"))
    if own <= 0:
        own = math.ceil(float(argument(arguments, "num_train_epochs")) * steps_an_epoch)
    if comparison.budget.match == "seconds":
        assert calibration is not None
        return Costs(own, partial(seconds_of, calibration))
    sides = 1 if stage.trainer == "sft" else 2
    tokens = sides * rows.num_prompt_tokens + rows.num_chosen_tokens
    tokens += rows.num_rejected_tokens if sides == 2 else 0
    worth = tokens / rows.num_pairs if comparison.budget.match == "tokens" else 1.0

    def of(steps: int) -> float:
        epochs, rest = divmod(steps, steps_an_epoch)
        return (epochs * rows.num_pairs + rest * batch) * worth

    return Costs(own, of)


def seconds_of(calibration: CalibrateOutcome, steps: int) -> float:
    """What a stage of so many steps takes by the calibration that is stored, whatever the clock will say."""
    return calibration.start_seconds + steps * median(calibration.step_seconds)


def rows_of(comparison: Comparison, stage: ArmStage, data: DataOutcome) -> SplitCount:
    """The pairs that a stage trains on; of a share of them, the tokens are what the mean says."""
    rows = data.splits["train"]
    share = comparison.sft.share if stage.trainer == "sft" else 1.0
    return (
        rows
        if share == 1
        else SplitCount(
            num_pairs=share_size(rows.num_pairs, share),
            num_prompt_tokens=round(rows.num_prompt_tokens * share),
            num_chosen_tokens=round(rows.num_chosen_tokens * share),
            num_rejected_tokens=round(rows.num_rejected_tokens * share),
        )
    )


def allot(
    comparison: Comparison, arm: str, stages: Sequence[Costs], budget: Sequence[Costs]
) -> list[Allotment]:
    """Steps of each stage of `arm`, so that together they spend what the yardstick does.

    Args:
        comparison: The config.
        arm: Its name, for the error.
        stages: Of the arm, in order.
        budget: Of the yardstick.

    Raises:
        UserError: in whole steps the arm misses the budget by more than the audit allows.
    """
    target = sum(stage.of(stage.own_steps) for stage in budget)
    fixed = sum(stage.of(0) for stage in stages)
    own = sum(stage.of(stage.own_steps) for stage in stages)
    share = max(0.0, (target - fixed) / (own - fixed))
    found: list[Allotment] = []
    spent = goal = 0.0
    for stage in stages:
        goal += stage.of(0) + share * (stage.of(stage.own_steps) - stage.of(0))
        steps = _nearest(goal - spent, stage.of)
        spent += stage.of(steps)
        tokens = round(goal) if comparison.budget.match == "tokens" else None
        found.append(Allotment(steps, tokens))
    if abs(spent - target) > TOLERANCE * min(spent, target):
        _refuse(comparison, arm, spent, target)
    return found


def not_yet_converted(plan: Plan) -> list[str]:
    """Sentences on the arms whose steps follow from records that are not there yet."""
    comparison = plan.comparison
    source = {
        "pairs": "the number of training pairs, known when the data are prepared",
        "tokens": "the numbers of tokens, known when the data are prepared",
        "seconds": "the calibration of their steps",
    }
    return [
        f"{arm}'s steps: budget.match: {comparison.budget.match} takes them from {source[comparison.budget.match]}"
        for arm in plan.waiting
    ]


def _nearest(amount: float, of: Callable[[int], float]) -> int:
    """The number of steps, at least 1, that spends nearest to `amount`; the smaller of two as near."""
    upper = 1
    while of(upper) < amount:
        upper *= 2
    steps = bisect_left(range(upper), amount, key=of)
    if steps > 1 and amount - of(steps - 1) <= of(steps) - amount:
        steps -= 1
    return max(1, steps)


def _refuse(comparison: Comparison, arm: str, spent: float, target: float) -> None:
    match = comparison.budget.match
    raise UserError(
        f"{comparison.name}: budget.match: {match} must be met within {TOLERANCE:.0%}, and in whole steps of "
        f"{comparison.training.effective_batch} pairs {arm} comes to {spent:,.6g} {match} where "
        f"{yardstick(comparison)} takes {target:,.6g}. Give the arms more steps: more pairs, more epochs or a smaller "
        "training.effective_batch."
    )
