"""Which keys go with several stages at a time: their seconds are unreliable, so nothing may rest on them unsaid."""

from __future__ import annotations

from harness.budget_rules import Broken
from harness.config import Comparison


def broken_worker_rules(comparison: Comparison) -> Broken:
    """Every broken rule as (key, the rest of the sentence that begins with it)."""
    workers = comparison.workers
    if workers == 1:
        return
    if comparison.metering == "strict":
        yield (
            "workers",
            f"must be 1 with `metering: strict`, got {workers}: stages side by side spoil each other's costs. Write "
            "`metering: relaxed` if quality alone matters.",
        )
    if comparison.device == "cuda" and workers != "auto":
        yield "workers", f"must be 1 with `device: cuda`, got {workers}: on a GPU one stage runs at a time."
    if comparison.threads is None:
        yield (
            "threads",
            f"must be given with `workers: {workers}`: all cores for each stage would be too many. A number, or auto.",
        )
    if comparison.budget.match == "seconds":
        yield (
            "budget.match",
            f"must not be seconds with `workers: {workers}`: stages side by side stretch each other's seconds.",
        )
    if comparison.nightly.remeasure == "costs":
        yield (
            "nightly.remeasure",
            f"must not be costs with `workers: {workers}`: stages side by side stretch each other's seconds.",
        )
