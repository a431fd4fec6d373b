"""Before a run: the forecast of what is left is made, kept beside the results, and held against free memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.forecast.ask import ask_through
from harness.forecast.bill import CONTEXT_BYTES
from harness.forecast.devices import free_bytes
from harness.forecast.history import FORECAST, read_forecast
from harness.forecast.lines import evaluation_line, first_page, headline
from harness.forecast.make import Asked, make_forecast
from harness.forecast.schema import Forecast, PlannedForecast
from harness.hostile import terminal
from harness.numbers import bytes_text
from harness.plan import Plan
from harness.records import write_json
from harness.start_method import make_launcher
from pipelines.stages import EvaluateSettings, PrepareSettings, Stage, TrainSettings

Tell = Callable[[str], object]
Make = Callable[[Plan, Path, list[str] | None], Forecast]


def forecast_before(
    plan: Plan,
    todo: list[Stage],
    folder: Path,
    *,
    arms: list[str] | None,
    force: bool,
    say: Tell,
    warn: Tell,
    make: Make | None = None,
    free: Callable[[Literal["cpu", "cuda"]], int | None] = free_bytes,
) -> None:
    """Forecast the training stages that are left, unless that was done, and refuse what memory will not hold.

    Where nothing is left to train but benchmarks are left, which can take hours, it is said how long they take.

    A stage's first forecast stays: a later one may know what the stage itself has shown. A forecast that fails stops
    nothing.

    Args:
        plan: The plan.
        todo: Its stages that have to run.
        folder: The comparison's results folder; gets `forecast.json`.
        arms: The arms that it was planned with; all if None.
        force: Run also where memory will not do.
        say: Told the forecast in a line.
        warn: Told what is wrong, in a line.
        make: Makes a forecast; by default in a process that starts as the run's stages do.
        free: Bytes that are free on a device.

    Raises:
        UserError: memory will not do, by more than the forecast's own error.
    """
    make = make or _make_as_stages_start
    left = {stage.id for stage in todo if isinstance(stage.settings, TrainSettings)}
    if not left and not plan.waiting:
        of_benchmarks = _of_benchmarks(plan, {stage.id for stage in todo})
        if of_benchmarks is not None:
            try:
                say(evaluation_line(make(of_benchmarks, folder, arms)))
            except Exception as error:
                warn(_failure(error))
        return
    forecast = read_forecast(folder)
    if forecast is not None and left and _covers(forecast, left):
        checked = [planned for planned in forecast.planned if planned.id in left]
    else:
        try:
            made = make(plan, folder, arms)
            forecast = _keep(made, left, folder, forecast)
        except Exception as error:  # whatever it is: the run is what was asked for
            warn(_failure(error))
            return
        say(headline(forecast))
        # Stages that wait for their budget have no id yet, but they need the memory.
        checked = [planned for planned in made.planned if plan.waiting or planned.id in left]
    _check_memory(
        checked,
        error=forecast.memory_error,
        kind=forecast.device.kind,
        free=free(forecast.device.kind),
        workers=plan.stages[0].workers,
        force=force,
        warn=warn,
    )


def forecast_ahead(plan: Plan, todo: set[str], folder: Path, *, arms: list[str] | None) -> Iterator[str]:
    """The first page of the forecast that a run left, or of one that is made now and kept nowhere.

    Args:
        plan: The plan.
        todo: Ids of its stages that have to run; without training or benchmarks among them there is nothing to forecast.
        folder: The comparison's results folder; it need not be there.
        arms: The arms that it was planned with; all if None.
    """
    left = {
        stage.id for stage in plan.stages if stage.id in todo and isinstance(stage.settings, TrainSettings)
    }
    if not left and not plan.waiting:
        yield from _benchmarks_ahead(plan, todo, folder, arms)
        return
    forecast = read_forecast(folder)
    if forecast is None or not left or not _covers(forecast, left):
        try:
            forecast = make_forecast(plan, arms=arms, asked=Asked(results=folder.parent, fits=False))
        except Exception as error:
            yield _failure(error)
            return
    yield from first_page(forecast)


def _benchmarks_ahead(plan: Plan, todo: set[str], folder: Path, arms: list[str] | None) -> Iterator[str]:
    of_benchmarks = _of_benchmarks(plan, todo)
    if of_benchmarks is None:
        return
    try:
        yield evaluation_line(
            make_forecast(of_benchmarks, arms=arms, asked=Asked(results=folder.parent, fits=False))
        )
    except Exception as error:
        yield _failure(error)


def _of_benchmarks(plan: Plan, todo: set[str]) -> Plan | None:
    """The plan with no evaluation but those that are left; None where no benchmark is."""
    groups = (
        stage.settings.evaluation.group
        for stage in plan.stages
        if stage.id in todo and isinstance(stage.settings, EvaluateSettings)
    )
    if "benchmarks" not in groups:
        return None
    stages = []
    for stage in plan.stages:
        settings = stage.settings
        # A training stage tells the model's size; its looks at validation pairs are over.
        if isinstance(settings, TrainSettings):
            without_looks = settings.model_copy(update={"eval_every": None})
            stages.append(stage.model_copy(update={"settings": without_looks}))
        elif isinstance(settings, PrepareSettings) or stage.id in todo:
            stages.append(stage)
    return plan.model_copy(update={"stages": stages})


def _covers(forecast: Forecast, stages: set[str]) -> bool:
    return stages <= {planned.id for planned in forecast.planned}


def _failure(error: Exception) -> str:
    return terminal(f"no forecast: {' '.join(str(error).split()) or type(error).__name__}")


def _make_as_stages_start(plan: Plan, folder: Path, arms: list[str] | None) -> Forecast:
    launcher = make_launcher(plan.comparison.start_method, plan.stages[0].device, folder)
    asked = Asked(results=folder.parent, fits=False, ask=ask_through(launcher))
    return make_forecast(plan, arms=arms, asked=asked)


def _keep(made: Forecast, left: set[str], folder: Path, before: Forecast | None) -> Forecast:
    """Write a new forecast into `folder`, and with it what was forecast before of other stages."""
    earlier = before.planned if before is not None else []
    known = {planned.id for planned in earlier}
    new = [planned for planned in made.planned if planned.id in left - known]
    made = made.model_copy(update={"planned": [*earlier, *new]})
    write_json(folder / FORECAST, made.model_dump(mode="json", by_alias=True))
    return made


def _check_memory(
    stages: list[PlannedForecast],
    *,
    error: float,
    kind: str,
    free: int | None,
    workers: int,
    force: bool,
    warn: Tell,
) -> None:
    """Warn where the highest peak exceeds what is free; refuse where even the least that it may be does.

    Several stages at a time count as so many with the highest peak.
    """
    highest = max(stages, key=lambda stage: stage.peak_memory_bytes)
    peak = workers * highest.peak_memory_bytes
    driver = CONTEXT_BYTES if kind == "cuda" else 0
    if free is None or peak + driver <= free:
        return
    least = peak * (1 - error) + driver
    times = f"{workers} times " if workers > 1 else ""
    found = (
        f"memory: the forecast is {bytes_text(peak + driver)} (+-{error:.0%}) for "
        f"{times}{highest.kind} ({highest.id}), {bytes_text(free)} are free on the {'GPU' if kind == 'cuda' else 'machine'}"
    )
    if least > free and not force:
        fewer = "fewer workers, " if workers > 1 else ""
        raise UserError(
            f"{found}. Free some, or use {fewer}a smaller training.micro_batch, gradient_checkpointing or tuning: lora; "
            "`prefduel forecast` shows what memory consists of. --force runs all the same."
        )
    warn(f"{found}. It may run out of memory.")
