"""A forecast for people: tables of plain text."""

from __future__ import annotations

from collections.abc import Iterator

from harness.forecast.bill import PREPARATION
from harness.forecast.schema import ArmForecast, Forecast, Range, StageForecast
from harness.hostile import terminal
from harness.numbers import GIB, bytes_text, number

GB = 10**9
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "reference", "adapter", "overhead")
MINUTE, HOUR, DAY = 60, 3600, 86400


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """The whole forecast, its first page last: it is what a terminal still shows."""
    for name, arm in forecast.arms.items():
        yield from _arm(name, arm)
        yield ""
    yield from first_page(forecast)


def first_page(forecast: Forecast) -> Iterator[str]:
    """The arms side by side, the whole comparison, and what both rest on."""
    device = forecast.device
    yield terminal(f"{forecast.comparison}: a forecast, before anything has run")
    yield from _side_by_side(forecast)
    yield from _total(forecast)
    yield terminal(f"device      {device.name}, {device.memory_bytes / GB:.0f} GB ({device.source})")
    yield terminal(f"lengths     {forecast.lengths}; {forecast.num_train_pairs} training pairs")
    yield f"error       {_error(forecast)}"
    for note in forecast.notes:
        yield terminal(f"note        {note}")


def headline(forecast: Forecast) -> str:
    """The forecast in a line."""
    peak = max((arm.peak_memory_bytes for arm in forecast.arms.values()), default=0)
    parts = [ratio_line(forecast), f"peak {bytes_text(peak)}", f"all {range_text(forecast.total.seconds)}"]
    return terminal(f"forecast: {'; '.join(part for part in parts if part)}")


def evaluation_line(forecast: Forecast) -> str:
    """How long the evaluations of a forecast take, in a line."""
    total = forecast.total
    unknown = [what for what in total.not_forecast if what.split()[0] not in PREPARATION]
    left_out = f", NOT FORECAST: {', '.join(unknown)}" if unknown else ""
    return terminal(f"forecast: evaluation {range_text(total.evaluation_seconds)}{left_out}")


def ratio_line(forecast: Forecast) -> str | None:
    """`orpo / sft-dpo: peak 0.81x, time 0.74x, money 0.74x`."""
    ratio = forecast.ratio
    if ratio is None:
        return None
    parts = [f"peak {ratio.peak_memory:.2f}x", f"time {ratio.seconds:.2f}x"]
    if ratio.money is not None:
        parts.append(f"money {ratio.money:.2f}x")
    return f"{ratio.arms[0]} / {ratio.arms[1]}: {', '.join(parts)}"


def duration_text(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for size, unit in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def range_text(seconds: Range) -> str:
    """`3 h (2 h to 5 h)`."""
    return f"{duration_text(seconds.mid)} ({duration_text(seconds.low)} to {duration_text(seconds.high)})"


def _error(forecast: Forecast) -> str:
    factor = forecast.seconds_factor
    seconds = "" if factor is None else f", time a factor of {number(factor)}"
    return f"memory {forecast.memory_error:.0%}{seconds} ({forecast.error_source})"


def _arm(name: str, arm: ArmForecast) -> Iterator[str]:
    yield terminal(f"{name}: peak {bytes_text(arm.peak_memory_bytes)}, {range_text(arm.seconds)} a seed")
    for stage in arm.stages:
        yield from _stage(stage)


def _stage(stage: StageForecast) -> Iterator[str]:
    formula = "" if stage.method == "fake tensors" else f"; {stage.method}"
    yield terminal(
        f"  {stage.kind} ({stage.variant}): {stage.num_steps} steps, longest sequence {stage.length} tokens{formula}"
    )
    yield terminal(f"    time    {range_text(stage.seconds)}: {stage.throughput_source}")
    yield f"    {'GiB':<10}{'peak':>9}" + "".join(f"{part:>12}" for part in PARTS)
    for phase, found in stage.phases.items():
        parts = (getattr(found.parts, f"{part}_bytes") / GIB for part in PARTS)
        yield f"    {phase:<10}{found.peak_memory_bytes / GIB:>9.2f}" + "".join(
            f"{part:>12.2f}" for part in parts
        )
    if stage.fits:
        fits = (
            f"{fit.card_bytes // GB} GB: "
            + ("nothing" if fit.micro_batch is None else f"{fit.micro_batch} x {fit.accumulation}")
            for fit in stage.fits
        )
        yield f"    fits    {', '.join(fits)}  (micro-batch x accumulation)"


def _side_by_side(forecast: Forecast) -> Iterator[str]:
    yield f"  {'arm':<20}{'peak':>12} {'time a seed':>34} {'money':>24}"
    for name, arm in forecast.arms.items():
        money = "no price_per_hour" if arm.money is None else _money_text(arm.money, forecast.currency)
        yield terminal(
            f"  {name:<20}{bytes_text(arm.peak_memory_bytes):>12} {range_text(arm.seconds):>34} {money:>24}"
        )
    if (line := ratio_line(forecast)) is not None:
        yield terminal(line)


def _total(forecast: Forecast) -> Iterator[str]:
    total = forecast.total
    yield f"whole       {range_text(total.seconds)}: training {range_text(total.training_seconds)}, evaluation"
    left_out = f", NOT FORECAST: {', '.join(total.not_forecast)}" if total.not_forecast else ""
    yield terminal(
        f"            {range_text(total.evaluation_seconds)}{left_out}; disk {bytes_text(total.disk_bytes)}"
    )
    if total.energy_kwh is not None:
        energy = total.energy_kwh
        yield f"energy      at most {number(energy.mid)} kWh ({number(energy.low)} to {number(energy.high)}), at full power"
    if total.money is not None:
        yield terminal(f"money       {_money_text(total.money, forecast.currency)}")


def _money_text(money: Range, currency: str) -> str:
    return f"{number(money.mid)} {currency} ({number(money.low)} to {number(money.high)})"
