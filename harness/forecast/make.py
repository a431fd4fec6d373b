"""Makes a forecast: what the stages need, asked of the forecast's process, turned into memory, time, disk and money."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harness.config import Budget, Comparison
from harness.forecast.ask import Ask, ask_fresh_process
from harness.forecast.bill import arm_forecast, ratio_of, total_of
from harness.forecast.devices import Device, device_for
from harness.forecast.duration import load_of
from harness.forecast.evaluations import Size, earlier_seconds
from harness.forecast.history import errors, read_history
from harness.forecast.later_trials import with_later_trials
from harness.forecast.schema import DeviceForecast, Forecast, PlannedForecast
from harness.forecast.speeds import Job, speeds
from harness.forecast.stage_forecast import divisors, stage_forecast
from harness.plan import Plan
from harness.planning import make_plan
from harness.rules import train_share
from pipelines.data.sources import TOY
from pipelines.forecast.request import (
    ForecastRequest,
    Lengths,
    LengthSource,
    StageAnswer,
    StageRequest,
)
from pipelines.stages import PrepareSettings, TrainSettings

# Rows of public preference data that configs here name, as their pages count them.
KNOWN_ROWS = {
    "argilla/distilabel-intel-orca-dpo-pairs": 12_859,
    "huggingfaceh4/ultrafeedback_binarized": 61_135,
}
ASSUMED_PAIRS = 10_000
# TRL's arguments that change neither memory nor work of a micro-batch: points of a sweep that differ only in these are
# rehearsed once.
NEUTRAL = (
    "learning_rate", "beta", "num_train_epochs", "max_steps", "lr_scheduler_type", "warmup_ratio", "warmup_steps",
    "weight_decay",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a forecast is asked for beside the plan.

    Attributes:
        results: Folder of earlier results.
        device: Name of a device, None for the config's own.
        pairs: Training pairs, where the data does not say.
        calibrate: Whether a few real steps are run.
        fits: Whether other micro-batches are looked at.
        ask: Asks the forecast's process.
    """

    results: Path
    device: str | None = None
    pairs: int | None = None
    calibrate: bool = False
    fits: bool = True
    ask: Ask = ask_fresh_process


def make_forecast(plan: Plan, *, arms: list[str] | None, asked: Asked) -> Forecast:
    """The forecast of a comparison.

    Args:
        plan: The comparison as far as it is known, at least one training stage.
        arms: The arms that it was planned with; all if None.
        asked: See there.

    Raises:
        UserError: the model's shape is not known here, the data is malformed, or the device is not known.
    """
    comparison = plan.comparison
    device = device_for(comparison, asked.device)
    notes: list[str] = []
    if plan.waiting:
        notes.append(
            f"budget.match: {comparison.budget.match}: each stage is forecast at its own epochs or steps; what it gets is "
            "known when the run has prepared the data"
        )
        plan = make_plan(comparison.model_copy(update={"budget": Budget(match="none")}), arms=arms)
    if any(stage.inputs.demonstrations for stage in plan.stages):
        notes.append("SFT on demonstrations is forecast as on the pairs' chosen replies, as many and as long")
    wanted = {_text(settings): settings for settings in _training(plan).values()}
    answers, lengths = _rehearse(plan, list(wanted.values()), asked, device)
    notes.extend(_beyond_positions(answers))
    num_pairs = _num_pairs(comparison, lengths, asked, notes)
    jobs = [_job(settings, answers, lengths, num_pairs) for settings in wanted.values()]
    history = read_history(asked.results)
    found_speeds = speeds(
        jobs,
        device,
        history=history,
        calibrate=asked.calibrate,
        threads=plan.stages[0].threads,
        ask=asked.ask,
        notes=notes,
    )
    made = {
        text: stage_forecast(job, speed, device)
        for text, job, speed in zip(wanted, jobs, found_speeds, strict=True)
    }
    known = {stage_id: made[_text(settings)] for stage_id, settings in _training(plan).items()}
    whole = with_later_trials(plan, known, arms=arms, notes=notes)
    by_id = {stage_id: made[_text(settings)] for stage_id, settings in _training(whole).items()}
    price = comparison.price_per_hour
    found = {
        trial.name: arm_forecast([by_id[stage_id] for stage_id in trial.training], price)
        for trial in whole.trials
        if trial.role == "arm"
    }
    error = errors(history, device.kind)
    return Forecast(
        comparison=comparison.name,
        device=DeviceForecast(
            name=device.name, kind=device.kind, memory_bytes=device.memory_bytes, source=device.source
        ),
        lengths=_lengths_text(lengths),
        num_train_pairs=num_pairs,
        arms=found,
        ratio=ratio_of(found, comparison.decision.compare),
        total=total_of(
            whole,
            by_id,
            Size(jobs[0].answer, lengths, num_pairs, device, found_speeds[0]),
            price,
            earlier_seconds(asked.results, device.name),
        ),
        currency=comparison.currency,
        memory_error=error.memory,
        seconds_factor=error.seconds_factor,
        error_source=error.source,
        planned=[
            PlannedForecast(
                id=stage_id,
                kind=stage.kind,
                peak_memory_bytes=stage.peak_memory_bytes,
                seconds=stage.seconds,
                flops=stage.flops,
            )
            for stage_id, stage in known.items()
        ],
        notes=notes,
    )


def distinct_jobs(plan: Plan, asked: Asked) -> list[Job]:
    """The training stages of a plan, those once that need as much memory and work for a micro-batch.

    Raises:
        UserError: as `make_forecast`.
    """
    device = device_for(plan.comparison, asked.device)
    wanted = list({_rehearsal(settings): settings for settings in _training(plan).values()}.values())
    answers, lengths = _rehearse(plan, wanted, asked, device)
    num_pairs = _num_pairs(plan.comparison, lengths, asked, [])
    return [_job(settings, answers, lengths, num_pairs) for settings in wanted]


def _training(plan: Plan) -> dict[str, TrainSettings]:
    """Every distinct training stage of the plan: its id to its settings."""
    return {stage.id: stage.settings for stage in plan.stages if isinstance(stage.settings, TrainSettings)}


def _text(settings: TrainSettings) -> str:
    return settings.model_dump_json()


def _rehearsal(settings: TrainSettings) -> str:
    """What stages share that need as much memory and work for a micro-batch."""
    arguments = {name: value for name, value in settings.arguments.items() if name not in NEUTRAL}
    return _text(settings.model_copy(update={"arguments": arguments}))


def _rehearse(
    plan: Plan, wanted: list[TrainSettings], asked: Asked, device: Device
) -> tuple[dict[str, StageAnswer], Lengths]:
    """The answer to each distinct rehearsal, and the lengths of the pairs."""
    distinct: dict[str, TrainSettings] = {}
    for settings in wanted:
        distinct.setdefault(_rehearsal(settings), settings)
    requests = [
        StageRequest(
            settings=settings, micro_batches=divisors(settings.effective_batch) if asked.fits else []
        )
        for settings in distinct.values()
    ]
    answer = asked.ask(
        ForecastRequest(device=device.kind, stages=requests, lengths=_length_source(plan, asked))
    )
    return dict(zip(distinct, answer.stages, strict=True)), answer.lengths


def _beyond_positions(answers: dict[str, StageAnswer]) -> list[str]:
    """A note where sequences are longer than the model was made for."""
    answer = max(answers.values(), key=lambda one: one.length)
    if answer.num_positions is None or answer.length <= answer.num_positions:
        return []
    return [
        f"training.max_length: sequences of {answer.length} tokens are forecast, the model has {answer.num_positions} positions"
    ]


def _job(settings: TrainSettings, answers: dict[str, StageAnswer], lengths: Lengths, num_pairs: int) -> Job:
    rehearsal = _rehearsal(settings)
    answer = answers[rehearsal]
    load = load_of(
        settings,
        answer.work,
        length=answer.length,
        sequences=lengths.padded(settings),
        num_pairs=num_pairs,
    )
    return Job(settings, answer, load, rehearsal, lengths.completion_share)


def _length_source(plan: Plan, asked: Asked) -> LengthSource | None:
    """The pairs that a data stage left, else the source, where it is on this machine."""
    data_id, settings = next(
        (stage.id, stage.settings)
        for stage in plan.stages
        if isinstance(stage.settings, PrepareSettings) and not stage.settings.demonstrations
    )
    source = settings.data
    prepared = asked.results / plan.comparison.name / data_id
    there = (prepared / "splits").is_dir()
    if not there and source.path != TOY and not Path(source.path).exists():
        return None
    return LengthSource(
        model=settings.model,
        data=source,
        max_length=settings.max_length,
        prepared=str(prepared) if there else None,
    )


def _num_pairs(comparison: Comparison, lengths: Lengths, asked: Asked, notes: list[str]) -> int:
    if asked.pairs is not None:
        return asked.pairs
    if lengths.num_train_pairs is not None:
        return max(1, lengths.num_train_pairs)
    data = comparison.data
    rows = KNOWN_ROWS.get(data.path.lower())
    if rows is None:
        notes.append(
            f"the data is not on this machine: {ASSUMED_PAIRS} training pairs are assumed (--pairs N)"
        )
        pairs = ASSUMED_PAIRS
    else:
        notes.append(f"{data.path} is not on this machine: its {rows} rows are taken from its page")
        pairs = round(rows * train_share(data))
    return min(pairs, data.max_train_pairs or pairs)


def _lengths_text(lengths: Lengths) -> str:
    if not lengths.chosen:
        return "max_length: the data or its tokenizer is not on this machine, so every sequence is taken as the longest"
    mean, longest = (
        measure([max(pair) for pair in zip(lengths.chosen, lengths.rejected, strict=True)])
        for measure in (fmean, max)
    )
    return f"{lengths.source}: {len(lengths.chosen)} pairs, mean {mean:.0f} tokens, longest {longest}"
