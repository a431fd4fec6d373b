"""What `prefduel power` prints: the variances, where they come from, and the seeds that each number of items needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.config import Comparison
from harness.errors import UserError
from harness.hostile import terminal
from harness.numbers import number
from harness.power import (
    ITEMS,
    MOST_SEEDS,
    POWER,
    Goal,
    Spread,
    assumed_spread,
    fewest_seeds,
    outlook,
    spread_of,
)
from harness.results import read_results
from harness.scores import score_tables, shared_items
from harness.verdict import MIN_SEEDS, Rule, places

CORRELATION = "--correlation"
ASSUMED = {"--seed-sd": 0.02, "--item-sd": 0.1, "--residual-sd": 0.4, CORRELATION: 0.0}
LARGEST_SD = 1e6  # no metric's mean varies by a million, whatever its unit


def assumed(given: Mapping[str, float]) -> tuple[Spread, str]:
    """Variances from assumptions, and a sentence that states them.

    Args:
        given: By option; those that are left out are `ASSUMED`.

    Raises:
        UserError: an assumption that cannot be.
    """
    assumptions = {**ASSUMED, **given}
    seed_sd, item_sd, residual_sd, correlation = (assumptions[name] for name in ASSUMED)
    for name, value in assumptions.items():
        if name != CORRELATION and not 0 <= value <= LARGEST_SD:
            raise UserError(
                f"{name}: must be a number from 0 to {LARGEST_SD:g}, in the metric's unit, got {value}."
            )
    if not -1 <= correlation <= 1:
        raise UserError(f"{CORRELATION}: must lie between -1 and 1, got {correlation}.")
    spread = assumed_spread(
        seed_sd=seed_sd, item_sd=item_sd, residual_sd=residual_sd, correlation=correlation
    )
    return spread, (
        f"assumed: an arm's mean varies by {seed_sd:g} from seed to seed, its gain by {item_sd:g} from item to item, a score "
        f"by {residual_sd:g} beside that; correlation over seeds {correlation:g}"
    )


def measured(comparison: Comparison, folder: Path) -> tuple[Spread, str]:
    """Variances of the declared metric in an earlier run of the two arms, and a sentence that says so.

    Raises:
        UserError: the folder has not both arms with 2 common seeds and 2 common items on this metric, items from one
            prompt counted once.
    """
    results = read_results(folder)
    name, arms = comparison.decision.metric, comparison.decision.compare
    models = results.models()
    found = [score_tables(results, models.get(arm, [])).get(name) for arm in arms]
    first, second = found
    if first is None or second is None:
        lacking = next(arm for arm, table in zip(arms, found, strict=True) if table is None)
        raise UserError(
            f"{folder}: has no finished measurement of {name} for {lacking}. Leave --from out to assume."
        )
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    items = shared_items(first, second)
    one, other = (table.units(items)[places(table.seeds, seeds)] for table in (first, second))
    num_units = one.shape[1]  # as the verdict counts items: those from one prompt are one
    if len(seeds) < 2 or num_units < 2:
        raise UserError(
            f"{folder}: must have at least 2 seeds and 2 items that both arms were measured on, got {len(seeds)} and "
            f"{num_units}."
        )
    averaged = f" (averages by prompt of {len(items)})" if num_units < len(items) else ""
    return (
        spread_of(one, other),
        f"measured: {name} of {folder.name}, {len(seeds)} seeds, {num_units} items{averaged}",
    )


def power_lines(comparison: Comparison, spread: Spread, source: str) -> Iterator[str]:
    """The table for people, then what the config itself can expect."""
    decision = comparison.decision
    rule = Rule(margin=decision.margin, alpha=decision.alpha / decision.looks)  # as each look is judged
    looks = f" at each of {decision.looks} looks" if decision.looks > 1 else ""
    yield terminal(
        f"{comparison.name}: {decision.metric}, margin {rule.margin:g}, alpha {rule.alpha:g}{looks}; {source}"
    )
    if spread.is_zero:
        yield (
            f"no spread {'was assumed' if spread.num_seeds is None else 'in these records'}: the arms' difference does not "
            "vary from seed to seed, so nothing can be said of other seeds"
        )
        return
    yield f"seeds for a power of {POWER:.0%}, to find a true difference of the margin, and to find that equal arms are equivalent:"
    yield f"  {'items':>6}  {'better':>12}  {'equivalent':>12}"
    for num_items in ITEMS:
        cells = [_seeds(spread, rule, num_items, goal) for goal in ("better", "equivalent")]
        yield f"  {num_items:>6}  {cells[0]:>12}  {cells[1]:>12}"
    if spread.num_seeds is not None:
        yield "  from the variance as estimated, to its upper 80 % bound: few seeds estimate it badly"
    if comparison.seeds < MIN_SEEDS:
        yield f"the config has {comparison.seeds} seeds: a verdict needs {MIN_SEEDS}"
        return
    for num_items in ITEMS:
        found = outlook(spread, rule, num_seeds=comparison.seeds, num_items=num_items)
        yield (
            f"the config's {comparison.seeds} seeds with {num_items} items: interval ±{number(found.half_width)}, "
            f"better {found.better:.0%}, equivalent {found.equivalent:.0%}"
        )


def _seeds(spread: Spread, rule: Rule, num_items: int, goal: Goal) -> str:
    low, high = (
        fewest_seeds(one, rule, num_items=num_items, goal=goal) for one in (spread, spread.inflated())
    )
    if low is None:
        return "more items"
    if high is None:
        return f"{low} to >{MOST_SEEDS}"
    return f"{low}" if low == high else f"{low} to {high}"
