"""What was forecast before the run, beside what was measured. Shows nothing where no forecast was left."""

from __future__ import annotations

from statistics import fmean

from harness.forecast.history import Compared, beside_measured, read_forecast
from harness.numbers import NOT_MEASURED, bytes_text, number
from harness.report.page import Block, Paragraph, Table, cut
from harness.report.view import View
from harness.sweep import points_of

MEMORY = {
    "cpu": "on this CPU the process's resident memory above what it held at its start",
    "cuda": "the most that torch's allocator had reserved",
}


def forecast_blocks(view: View) -> list[Block]:
    """A table of each arm's stages, and what its numbers count."""
    forecast = read_forecast(view.results.folder)
    if forecast is None:
        return []
    compared = beside_measured(forecast, view.results.records.get)
    if not compared:
        return []
    groups: dict[tuple[str, str], list[Compared]] = {}
    for one in compared:
        groups.setdefault((_model(view, one.stage), one.kind), []).append(one)
    head = [
        "model", "stage", "peak forecast", "measured", "measured / forecast", "train s forecast", "measured",
        "measured / forecast", "inside its range",
    ]  # fmt: skip
    rows = [(*group, *_row(found)) for group, found in groups.items()]
    told = (
        "Forecast before it ran, and what was then measured, by stage. Memory is "
        f"{MEMORY[forecast.device.kind]}; seconds are training loops with the reference log-probs read there, means over "
        f"stages. The forecast gave its own error as {forecast.memory_error:.0%} of the memory ({forecast.error_source})."
    )
    return [Paragraph(told), *cut(Table(head, rows, align="llrrrrrrr"), view.export)]


def _model(view: View, stage_id: str) -> str:
    """The arm, or the point of a sweep, that trains the stage: of several the first in the config, as in other tables."""
    comparison = view.results.plan.comparison
    order = [
        *comparison.arms,
        *(point.name for arm in comparison.arms for point in points_of(comparison, arm)),
    ]
    names = [trial.name for trial in view.results.plan.trials if stage_id in trial.stages()]
    first = next((name for name in order if name in names), None)
    return first or (names[0] if names else "not in the plan any more")


def _row(found: list[Compared]) -> tuple[str, ...]:
    peaks = [one.measured_memory_bytes for one in found if one.measured_memory_bytes is not None]
    ratios = [ratio for one in found if (ratio := one.memory_ratio) is not None]
    inside = sum(
        one.forecast_seconds.low <= one.measured_seconds <= one.forecast_seconds.high for one in found
    )
    return (
        bytes_text(max(one.forecast_memory_bytes for one in found)),
        bytes_text(max(peaks)) if peaks else NOT_MEASURED,
        number(fmean(ratios)) if ratios else NOT_MEASURED,
        number(fmean(one.forecast_seconds.mid for one in found)),
        number(fmean(one.measured_seconds for one in found)),
        number(fmean(one.seconds_ratio for one in found)),
        f"{inside} of {len(found)}",
    )
