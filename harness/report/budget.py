"""The budget: epochs, pairs, tokens and seconds of each arm, whichever of them was matched."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from harness.budget import is_converted, yardstick
from harness.numbers import NOT_MEASURED, count, number
from harness.report.page import Block, Code, Paragraph, Table
from harness.report.view import View
from pipelines.outcomes import TrainOutcome

# Unit to the field of a model's cost, and how it is written.
BESIDE: dict[str, tuple[str, Callable[[float], str]]] = {
    "pairs": ("num_pairs_seen", count),
    "tokens": ("num_policy_tokens", count),
    "seconds": ("train_seconds", number),
}


def budget_blocks(view: View) -> list[Block]:
    """All four, with their ratio to the yardstick's; what the config matched is marked."""
    comparison = view.results.plan.comparison
    match, first = comparison.budget.match, yardstick(comparison)
    models = view.summary.models()
    rows = []
    for arm in view.arms:
        amounts = []
        for field, told in BESIDE.values():
            value = getattr(models[arm].cost, field)
            beside = getattr(models[first].cost, field) if first in models else None
            ratio = f" ({value / beside:.3f})" if value and beside else ""
            amounts.append(NOT_MEASURED if value is None else f"{told(value)}{ratio}")
        rows.append((arm, _epochs(view, arm), *amounts))
    head = ["arm", *(f"{unit} (matched)" if unit == match else unit for unit in ("epochs", *BESIDE))]
    words = Paragraph(
        (
            "The budget (",
            Code(f"budget.match: {match}"),
            f", the yardstick is {first}" if is_converted(comparison) else "",
            "): means over seeds, all stages of an arm together, epochs stage by stage; in brackets the ratio to "
            f"{first}. Pairs and tokens are those through the policy.",
        )
    )
    return [words, Table(head, rows)]


def _epochs(view: View, arm: str) -> str:
    trials = view.arms[arm]
    found = []
    for place in range(len(trials[0].training)):
        records = [done for trial in trials if (done := view.results.done(trial.training[place]))]
        outcomes = [record.outcome for record in records if isinstance(record.outcome, TrainOutcome)]
        passes = [outcome.num_pairs_seen / outcome.num_rows for outcome in outcomes if outcome.num_rows]
        found.append(number(fmean(passes)) if passes else NOT_MEASURED)
    return " + ".join(found)
