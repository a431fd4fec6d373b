"""Earlier forecasts beside what was measured: how far off they were, and how fast such stages ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.forecast.schema import Forecast, PlannedForecast, Range
from harness.records import Record, finite, sound_record
from pipelines.stages import Strict

FORECAST = "forecast.json"
STATED_ERROR = 0.1
LEAST_ERROR = 0.01
MOST_READ = 50  # results folders, newest first
Find = Callable[[str], Record | None]


class Compared(Strict):
    """One finished training stage, with the pass for its reference log-probs: what was forecast, what was measured."""

    stage: str
    kind: str
    forecast_memory_bytes: int
    measured_memory_bytes: int | None
    forecast_seconds: Range
    measured_seconds: float
    relaxed: bool = False  # other stages could run at the same time, so its seconds are unreliable

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


@dataclass(frozen=True)
class Earlier:
    """A forecast and the stages of it that are done, each with its record and that of its reference log-probs."""

    forecast: Forecast
    finished: list[tuple[PlannedForecast, list[Record]]]


@dataclass(frozen=True)
class Errors:
    """How far off earlier forecasts were.

    Attributes:
        memory: Nine of ten stages needed their forecast peak within this share of it.
        seconds_factor: Nine of ten took their forecast seconds times or divided by at most this; None where none ran.
        source: Where both come from.
    """

    memory: float
    seconds_factor: float | None
    source: str


def read_forecast(folder: Path) -> Forecast | None:
    """The forecast that a run left in its results folder; None where there is none of this form."""
    try:
        return finite(Forecast.model_validate_json((folder / FORECAST).read_bytes()))
    except (OSError, ValueError):
        return None


def beside_measured(forecast: Forecast, find: Find) -> list[Compared]:
    """Every finished training stage that was forecast, with what was measured.

    Memory is what the forecast speaks of: on CUDA the allocator's peak, on a CPU resident memory above the process' own
    at its start.

    Args:
        forecast: Of a results folder.
        find: The record of a stage of it.
    """
    return [_compared(planned, records) for planned, records in _finished(forecast, find)]


def read_history(results: Path) -> list[Earlier]:
    """The newest forecasts below `results` with what was measured of them."""
    files = sorted(results.glob(f"*/{FORECAST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    folders = [path.parent for path in files[:MOST_READ]]
    return [
        Earlier(forecast, list(_finished(forecast, records_of(folder))))
        for folder in folders
        if (forecast := read_forecast(folder)) is not None
    ]


def errors(history: list[Earlier], kind: str) -> Errors:
    """The error of earlier forecasts on this kind of device."""
    compared = [
        _compared(*one)
        for earlier in history
        if earlier.forecast.device.kind == kind
        for one in earlier.finished
    ]
    deviations = [abs(ratio - 1) for one in compared if (ratio := one.memory_ratio) is not None]
    factors = [max(one.seconds_ratio, 1 / one.seconds_ratio) for one in compared if not one.relaxed]
    return Errors(
        memory=max(_nine_of_ten(deviations), LEAST_ERROR) if deviations else STATED_ERROR,
        seconds_factor=_nine_of_ten(factors) if factors else None,
        source=f"nine of ten of {len(compared)} earlier stages on this kind of device were nearer"
        if deviations
        else "stated: no earlier run on this kind of device has a forecast",
    )


def rates(history: list[Earlier], *, device: str, kind: str, tuning: str, dtype: str) -> list[float]:
    """Operations a second of earlier stages of this kind on this device, from forecasts and records beside them."""
    found = []
    for earlier in history:
        if earlier.forecast.device.name != device:
            continue
        for planned, records in earlier.finished:
            settings = records[0].stage.settings
            same = getattr(settings, "tuning", None) == tuning and getattr(settings, "dtype", None) == dtype
            if same and planned.kind == kind and not _relaxed(records):
                found.append(planned.flops / _seconds(records))
    return found


def records_of(folder: Path) -> Find:
    """Finds records in a results folder; a damaged one is none."""
    return lambda stage_id: sound_record(folder / stage_id)


def _finished(forecast: Forecast, find: Find) -> Iterator[tuple[PlannedForecast, list[Record]]]:
    """Every forecast stage that is done: its record, then that of the reference log-probs that it read."""
    for planned in forecast.planned:
        record = find(planned.id)
        records = [record]
        if record is not None and record.stage.inputs.reference is not None:
            records.append(find(record.stage.inputs.reference))
        done = [one for one in records if one is not None and one.status == "done" and one.cost is not None]
        if len(done) == len(records) and _seconds(done) > 0:
            yield planned, done


def _compared(planned: PlannedForecast, records: list[Record]) -> Compared:
    return Compared(
        stage=planned.id,
        kind=planned.kind,
        forecast_memory_bytes=planned.peak_memory_bytes,
        measured_memory_bytes=_highest([_memory(record) for record in records]),
        forecast_seconds=planned.seconds,
        measured_seconds=_seconds(records),
        relaxed=_relaxed(records),
    )


def _seconds(records: list[Record]) -> float:
    return sum(record.cost.train_seconds for record in records if record.cost is not None)


def _relaxed(records: list[Record]) -> bool:
    """Whether other stages could run beside them: their seconds say nothing of those of a stage alone."""
    return any(record.cost.workers > 1 for record in records if record.cost is not None)


def _memory(record: Record) -> int | None:
    cost = record.cost
    assert cost is not None
    if cost.peak_memory_kind == "cuda_reserved":
        return cost.peak_memory_bytes
    start = next((phase.peak_resident_bytes for phase in cost.phases if phase.name == "start"), None)
    if not isinstance(start, int) or cost.peak_memory_bytes is None:
        return None
    return max(0, cost.peak_memory_bytes - start)


def _highest(peaks: list[int | None]) -> int | None:
    known = [peak for peak in peaks if peak is not None]
    return max(known) if len(known) == len(peaks) else None


def _nine_of_ten(deviations: list[float]) -> float:
    ordered = sorted(deviations)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
