"""`run --until-decided`: two looks at the data, each at half of alpha; the second at the number of seeds the first predicts.

docs/decisions/verdict.md says how often this was wrong in simulation, and why it is not done after every seed.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.config import Comparison
from harness.summary_schema import Summary, VerdictSummary
from harness.verdict import INCOMPLETE, MIN_SEEDS, UNDECIDED, UNFAIR

LOOKS = 2
FIRST_LOOK = 3  # seeds: the fewest that give a verdict


def run_until_decided(
    comparison: Comparison,
    *,
    max_seeds: int,
    run: Callable[[Comparison], int],
    summary: Callable[[], Summary],
    say: Callable[[str], None],
) -> int:
    """Run a comparison at 3 seeds and, if they leave it undecided, once more at as many as would decide it.

    A run that was stopped goes on with the same command: the first look's stages are done, and its verdict is the same.

    Args:
        comparison: The validated config; its number of seeds is replaced.
        max_seeds: The second look has at most as many.
        run: Runs a comparison to its end and returns the exit code.
        summary: What the last run left.
        say: Told why it goes on or stops.

    Returns:
        The exit code of the last run.
    """
    decision = comparison.decision.model_copy(update={"looks": LOOKS})
    planned = comparison.model_copy(update={"decision": decision, "seeds": FIRST_LOOK})
    code = run(planned)
    left = summary()
    first = left.verdict
    seeds = second_look(first.outcome, first.seeds_needed, max_seeds)
    if seeds is None:
        say(f"First look: {first.outcome} at {FIRST_LOOK} seeds{_why_no_more(first)}")
        return code
    say(f"First look: undecided at {FIRST_LOOK} seeds. {_the_next(seeds, left)}")
    return run(planned.model_copy(update={"seeds": seeds}))


def second_look(outcome: str, seeds_needed: tuple[int, int] | None, max_seeds: int) -> int | None:
    """Seeds of the second look: the upper end of the predicted range, as there is no third; None if there is none to take.

    Args:
        outcome: Of the first look.
        seeds_needed: What the first look predicts.
        max_seeds: The most that may be run.
    """
    if outcome != UNDECIDED or seeds_needed is None:
        return None
    return min(seeds_needed[1], max_seeds)


def _the_next(seeds: int, left: Summary) -> str:
    """What is said of the look at so many seeds."""
    looks = left.rule.looks if left.rule else []
    spent = [str(made) for made in looks if made >= MIN_SEEDS and made not in (FIRST_LOOK, seeds)]
    if not spent:
        return f"The second and last look is at {seeds} seeds."
    return (
        f"The rule has no look left: the data were judged with {' and '.join(spent)} seeds before. The look at {seeds} seeds is one "
        "more, and adds false verdicts."
    )


def _why_no_more(first: VerdictSummary) -> str:
    """Why the first look is the last, after the outcome."""
    because = f": {first.reason}" if first.reason else ""
    if first.outcome == INCOMPLETE:
        return f"{because}. Run the same command again: it repeats what failed or is missing, then goes on."
    if first.outcome in (UNDECIDED, UNFAIR):
        return f"{because}. More seeds would not help."
    return f"{because}. No more seeds are needed."
