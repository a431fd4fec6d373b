"""How well the compared arms are tuned, as far as it gives reasons to doubt the verdict between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.config import Comparison
from harness.plan import Plan
from harness.sweep import Point, points_of

RATE = "learning_rate"


def tuning_doubts(plan: Plan) -> Iterator[str]:
    """Arms at one setting; chosen values at the end of what was tried; learning rates that no sweep changed."""
    comparison = plan.comparison
    points = {arm: points_of(comparison, arm) for arm in comparison.decision.compare}
    untuned = [arm for arm, found in points.items() if len(found) < 2]
    if untuned:
        several = len(untuned) > 1
        yield (
            f"{' and '.join(untuned)} ran at one setting of {'their' if several else 'its'} hyperparameters"
            f"{' each' if several else ''}; how well {'either' if several else 'it'} is tuned was not measured"
        )
    tuned = {arm: found for arm, found in points.items() if arm not in untuned}
    for arm, found in tuned.items():
        if arm in plan.chosen:
            yield from _at_an_end(arm, found, found[plan.chosen[arm]])
    if kept := list(_one_rate(comparison, tuned)):
        yield f"one learning rate was tried in {', '.join(kept)}"


def _at_an_end(arm: str, points: Sequence[Point], chosen: Point) -> Iterator[str]:
    """The best value may lie beyond the last one that was tried."""
    for key, value in chosen.changes.items():
        tried = [point.changes.get(key) for point in points]
        numbers = [one for one in tried if isinstance(one, int | float) and not isinstance(one, bool)]
        if value not in numbers or len(set(numbers)) < 2:
            continue
        for end, name in ((min(numbers), "lowest"), (max(numbers), "highest")):
            if value == end:
                yield f"{arm}'s chosen {key}, {value:g}, is the {name} that was tried: a better one may lie beyond"


def _one_rate(comparison: Comparison, tuned: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    for arm, points in tuned.items():
        for place, stage in enumerate(comparison.arms[arm]):
            if len({repr(point.recipe[place].arguments.get(RATE)) for point in points}) == 1:
                yield f"{arm} ({place + 1}. {stage.trainer})"
