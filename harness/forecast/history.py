"""Earlier forecasts beside what was measured: how far off they were, and how fast such stages ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.forecast.schema import Forecast, PlannedForecast, Range
from harness.records import Record, read_record
from pipelines.stages import Strict

FORECAST = "forecast.json"
STATED_ERROR = 0.1
MOST_COUNTED = 200  # newest results first


class Compared(Strict):
    """One finished training stage: what was forecast, what was measured."""

    stage: str
    kind: str
    forecast_memory_bytes: int
    measured_memory_bytes: int | None
    forecast_seconds: Range
    measured_seconds: float

    @property
    def memory_ratio(self) -> float | None:
        """Measured over forecast."""
        if self.measured_memory_bytes is None:
            return None
        return self.measured_memory_bytes / self.forecast_memory_bytes

    @property
    def seconds_ratio(self) -> float:
        """Measured over forecast."""
        return self.measured_seconds / self.forecast_seconds.mid


def read_forecast(folder: Path) -> Forecast | None:
    """The forecast that a run left in its results folder; None where there is none of this form."""
    try:
        return Forecast.model_validate_json((folder / FORECAST).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def beside_measured(folder: Path) -> list[Compared]:
    """Every finished training stage of a results folder that was forecast, with what was measured.

    Memory is what the forecast speaks of: on CUDA the allocator's peak, on a CPU resident memory above the process' own
    at its start.
    """
    return [_compared(planned, record) for planned, record in _finished(folder, read_forecast(folder))]


def memory_error(results: Path, kind: str) -> tuple[float, str]:
    """The error of earlier forecasts of memory on this kind of device, nine of ten of them, and where it comes from."""
    deviations = sorted(
        abs(ratio - 1)
        for folder in _folders(results)
        if (forecast := read_forecast(folder)) is not None and forecast.device.kind == kind
        for compared in beside_measured(folder)
        if (ratio := compared.memory_ratio) is not None
    )
    if not deviations:
        return STATED_ERROR, "stated: no earlier run on this kind of device has a forecast"
    worst = deviations[min(len(deviations) - 1, int(0.9 * len(deviations)))]
    return max(worst, 0.01), f"nine of ten of {len(deviations)} earlier stages were nearer"


def rates(results: Path, *, device: str, kind: str, tuning: str, dtype: str) -> list[float]:
    """Operations a second of earlier stages of this kind on this device, from forecasts and records beside them."""
    found = []
    for folder in _folders(results):
        forecast = read_forecast(folder)
        if forecast is None or forecast.device.name != device:
            continue
        for planned, record in _finished(folder, forecast):
            settings = record.stage.settings
            same = getattr(settings, "tuning", None) == tuning and getattr(settings, "dtype", None) == dtype
            if same and planned.kind == kind and record.cost is not None and record.cost.train_seconds > 0:
                found.append(planned.flops / record.cost.train_seconds)
    return found


def _folders(results: Path) -> list[Path]:
    files = sorted(results.glob(f"*/{FORECAST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in files[:MOST_COUNTED]]


def _finished(folder: Path, forecast: Forecast | None) -> Iterator[tuple[PlannedForecast, Record]]:
    for planned in forecast.planned if forecast is not None else ():
        try:
            record = read_record(folder / planned.id)
        except ValidationError:
            continue
        if record is not None and record.status == "done" and record.cost is not None:
            yield planned, record


def _compared(planned: PlannedForecast, record: Record) -> Compared:
    assert record.cost is not None
    return Compared(
        stage=planned.id,
        kind=planned.kind,
        forecast_memory_bytes=planned.peak_memory_bytes,
        measured_memory_bytes=_measured(record),
        forecast_seconds=planned.seconds,
        measured_seconds=record.cost.train_seconds,
    )


def _measured(record: Record) -> int | None:
    cost = record.cost
    assert cost is not None
    if cost.peak_memory_kind == "cuda_reserved":
        return cost.peak_memory_bytes
    start = next((phase.peak_resident_bytes for phase in cost.phases if phase.name == "start"), None)
    if not isinstance(start, int) or cost.peak_memory_bytes is None:
        return None
    return max(0, cost.peak_memory_bytes - start)
