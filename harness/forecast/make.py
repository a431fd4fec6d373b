"""Makes a forecast: what the stages need, asked of the forecast's process, turned into memory, time, disk and money."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harness.config import Comparison
from harness.forecast.ask import ask
from harness.forecast.bill import CONTEXT_BYTES, arm_forecast, overhead, ratio_of, total_of
from harness.forecast.devices import CARDS_BYTES, Device, device_for
from harness.forecast.duration import (
    Load,
    Speed,
    calibrated,
    lengths_of,
    load_of,
    of_peak,
    of_records,
    seconds_of,
)
from harness.forecast.history import memory_error, rates
from harness.forecast.schema import (
    DeviceForecast,
    Fit,
    Forecast,
    Parts,
    PhaseForecast,
    PlannedForecast,
    StageForecast,
)
from harness.plan import Plan
from harness.planning import make_plan
from harness.rules import TOY
from pipelines.forecast.request import (
    PARTS,
    CalibrationRequest,
    ForecastRequest,
    Lengths,
    LengthSource,
    PartBytes,
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


@dataclass(frozen=True)
class Asked:
    """What a forecast is asked for beside the config.

    Attributes:
        results: Folder of earlier results.
        device: Name of a device, None for the config's own.
        pairs: Training pairs, where the data does not say.
        calibrate: Whether a few real steps are run.
        fits: Whether other micro-batches are looked at.
    """

    results: Path
    device: str | None = None
    pairs: int | None = None
    calibrate: bool = False
    fits: bool = True


def make_forecast(comparison: Comparison, *, arms: list[str] | None, asked: Asked) -> Forecast:
    """The forecast of a comparison.

    Args:
        comparison: The validated config.
        arms: Only these arms; all if None.
        asked: See there.

    Raises:
        UserError: the model's shape is not known here, the data is malformed, or the device is not known.
    """
    device = device_for(comparison, asked.device)
    plan = make_plan(comparison, arms=arms)
    stages = _training_stages(plan)
    distinct = list(dict.fromkeys(settings.model_dump_json() for _, settings in stages.values()))
    wanted = [TrainSettings.model_validate_json(text) for text in distinct]
    lengths = _lengths(plan, asked, device)
    notes: list[str] = []
    num_pairs = _num_pairs(comparison, lengths, asked, notes)
    answers = ask(
        ForecastRequest(
            device=device.kind,
            stages=[
                StageRequest(
                    settings=settings,
                    length=max(lengths_of(settings, lengths)),
                    micro_batches=_divisors(settings.effective_batch) if asked.fits else [],
                )
                for settings in wanted
            ],
        )
    ).stages
    loads = [
        load_of(
            settings,
            answer.work,
            length=answer.length,
            sequences=lengths_of(settings, lengths),
            num_pairs=num_pairs,
        )
        for settings, answer in zip(wanted, answers, strict=True)
    ]
    speeds = _speeds(plan, wanted, answers, loads, device, asked, notes)
    made = {
        text: _stage(settings, answer, load, speed, device)
        for text, settings, answer, load, speed in zip(distinct, wanted, answers, loads, speeds, strict=True)
    }
    by_id = {stage_id: made[settings.model_dump_json()] for stage_id, (_, settings) in stages.items()}
    recipes = {
        trial.name: [by_id[stage_id] for stage_id in trial.training]
        for trial in plan.trials
        if trial.role == "arm"
    }
    price = comparison.price_per_hour
    found = {name: arm_forecast(recipe, price) for name, recipe in recipes.items()}
    error, error_source = memory_error(asked.results, device.kind)
    return Forecast(
        comparison=comparison.name,
        device=DeviceForecast(
            name=device.name, kind=device.kind, memory_bytes=device.memory_bytes, source=device.source
        ),
        lengths=_lengths_text(lengths),
        num_train_pairs=num_pairs,
        arms=found,
        ratio=ratio_of(found, comparison.decision.compare),
        total=total_of(plan, by_id, answers[0], lengths, num_pairs, device, speeds[0], price, notes),
        currency=comparison.currency,
        memory_error=error,
        error_source=error_source,
        planned=[
            PlannedForecast(
                id=stage_id,
                kind=stage.kind,
                peak_memory_bytes=stage.peak_memory_bytes,
                seconds=stage.seconds,
                flops=stage.flops,
            )
            for stage_id, stage in by_id.items()
        ],
        notes=notes,
    )


def _training_stages(plan: Plan) -> dict[str, tuple[str, TrainSettings]]:
    """Every distinct training stage of the plan: its id to its kind and settings."""
    return {
        stage.id: (stage.kind, stage.settings)
        for stage in plan.stages
        if isinstance(stage.settings, TrainSettings)
    }


def _lengths(plan: Plan, asked: Asked, device: Device) -> Lengths:
    """Of the pairs that a data stage left, else of the source, where it is on this machine."""
    data = next(stage for stage in plan.stages if isinstance(stage.settings, PrepareSettings))
    assert isinstance(data.settings, PrepareSettings)
    source = data.settings.data
    prepared = asked.results / plan.comparison.name / data.id
    if (prepared / "splits").is_dir():
        place: str | None = str(prepared)
    elif source.path == TOY or Path(source.path).exists():
        place = None
    else:
        return Lengths(source="max_length", num_train_pairs=None, num_test_pairs=None, chosen=[], rejected=[])
    wanted = LengthSource(
        model=data.settings.model, data=source, max_length=data.settings.max_length, prepared=place
    )
    found = ask(ForecastRequest(device=device.kind, lengths=wanted)).lengths
    assert found is not None
    return found


def _num_pairs(comparison: Comparison, lengths: Lengths, asked: Asked, notes: list[str]) -> int:
    if asked.pairs is not None:
        return asked.pairs
    if lengths.num_train_pairs is not None:
        return max(1, lengths.num_train_pairs)
    data = comparison.data
    rows = KNOWN_ROWS.get(data.path.lower())
    if rows is None:
        notes.append(
            f"{data.path} is not on this machine: {ASSUMED_PAIRS} training pairs are assumed (--pairs N)"
        )
        pairs = ASSUMED_PAIRS
    else:
        notes.append(f"{data.path} is not on this machine: its {rows} rows are taken from its page")
        pairs = round(rows * (1 - data.validation_share - data.test_share))
    return min(pairs, data.max_train_pairs or pairs)


def _speeds(
    plan: Plan,
    wanted: list[TrainSettings],
    answers: list[StageAnswer],
    loads: list[Load],
    device: Device,
    asked: Asked,
    notes: list[str],
) -> list[Speed]:
    """The best that is known of each stage's speed: measured now, else earlier, else a share of the peak."""
    measured = _calibrations(plan, wanted, answers, loads, device, notes) if asked.calibrate else {}
    found = []
    for number, settings in enumerate(wanted):
        earlier = rates(
            asked.results,
            device=device.name,
            kind=settings.kind,
            tuning=settings.tuning,
            dtype=settings.dtype,
        )
        found.append(measured.get(number) or (of_records(earlier) if earlier else of_peak(device, settings)))
    return found


def _calibrations(
    plan: Plan,
    wanted: list[TrainSettings],
    answers: list[StageAnswer],
    loads: list[Load],
    device: Device,
    notes: list[str],
) -> dict[int, Speed]:
    """Real steps of every stage that fits this machine, if it is the target; each in a fresh process."""
    import psutil

    if device.source not in ("this machine's",):
        notes.append(f"--calibrate times this machine, and the forecast is for {device.name}: not done")
        return {}
    free = psutil.virtual_memory().available if device.kind == "cpu" else device.memory_bytes
    found = {}
    for number, (settings, answer, load) in enumerate(zip(wanted, answers, loads, strict=True)):
        peak = max(sum(parts.values()) for parts in answer.phases.values())
        if peak > free or settings.tuning == "qlora":
            notes.append(f"--calibrate: a {settings.kind} stage needs more memory than is free, not timed")
            continue
        length = max(8, round(load.mean_length))
        request = CalibrationRequest(
            settings=settings, length=length, threads=plan.stages[0].threads, device=device.kind
        )
        (times,) = ask(ForecastRequest(device=device.kind, calibrations=[request])).calibrations
        share, work = length / answer.length, answer.work
        in_step = settings.reference != "precomputed"
        matmul = work.matmul_flops + in_step * work.reference_matmul_flops
        attention = work.attention_flops + in_step * work.reference_attention_flops
        found[number] = calibrated(times, matmul * share + attention * share**2)
    return found


def _stage(
    settings: TrainSettings, answer: StageAnswer, load: Load, speed: Speed, device: Device
) -> StageForecast:
    phases = {phase: _phase(parts, device) for phase, parts in answer.phases.items()}
    peak = max(phase.peak_memory_bytes for phase in phases.values())
    largest = {**answer.largest, "overhead": max(phase.parts.overhead_bytes for phase in phases.values())}
    return StageForecast(
        kind=settings.kind,
        variant=", ".join(
            filter(
                None,
                (
                    settings.reference and f"{settings.reference} reference",
                    settings.implementation,
                    settings.tuning,
                ),
            )
        ),
        peak_memory_bytes=peak,
        phases=phases,
        parts=_parts(largest),
        method=answer.method,
        length=answer.length,
        num_steps=load.num_steps,
        flops=load.flops,
        seconds=seconds_of(load, speed),
        throughput=speed.flops_per_second,
        throughput_source=speed.source,
        disk_bytes=answer.weights_bytes,
        fits=[_fit(size, settings, answer.peak_by_micro_batch) for size in CARDS_BYTES]
        if answer.peak_by_micro_batch
        else [],
    )


def _phase(parts: PartBytes, device: Device) -> PhaseForecast:
    whole: PartBytes = {**parts, "overhead": overhead(sum(parts.values()), device.kind)}
    return PhaseForecast(peak_memory_bytes=sum(whole.values()), parts=_parts(whole))


def _parts(found: PartBytes) -> Parts:
    return Parts(**{f"{part}_bytes": found.get(part, 0) for part in PARTS})


def _fit(card_bytes: int, settings: TrainSettings, peaks: dict[int, int]) -> Fit:
    """The largest micro-batch whose peak, with a CUDA allocator's overhead and the driver's own, fits the card."""
    for size in sorted(peaks, reverse=True):
        peak = peaks[size] + overhead(peaks[size], "cuda")
        if peak + CONTEXT_BYTES <= card_bytes:
            return Fit(
                card_bytes=card_bytes,
                micro_batch=size,
                accumulation=settings.effective_batch // size,
                peak_memory_bytes=peak,
            )
    return Fit(card_bytes=card_bytes, micro_batch=None, accumulation=None, peak_memory_bytes=None)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _lengths_text(lengths: Lengths) -> str:
    if not lengths.chosen:
        return "max_length: the data or its tokenizer is not on this machine, so every sequence is taken as the longest"
    mean, longest = (
        measure([max(pair) for pair in zip(lengths.chosen, lengths.rejected, strict=True)])
        for measure in (fmean, max)
    )
    return f"{lengths.source}: {len(lengths.chosen)} pairs, mean {mean:.0f} tokens, longest {longest}"
