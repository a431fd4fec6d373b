"""Forecasts that nothing was rehearsed for."""

from __future__ import annotations

from harness.forecast.schema import (
    ArmForecast,
    DeviceForecast,
    Forecast,
    Parts,
    PhaseForecast,
    PlannedForecast,
    Range,
    StageForecast,
    Total,
)
from harness.plan import Plan
from pipelines.stages import TrainSettings

MIB = 2**20
NO_PARTS = Parts(
    weights_bytes=0,
    gradients_bytes=0,
    optimizer_bytes=0,
    activations_bytes=0,
    logits_bytes=0,
    reference_bytes=0,
    adapter_bytes=0,
    overhead_bytes=0,
)


def seconds(mid: float) -> Range:
    return Range(low=mid / 2, mid=mid, high=2 * mid)


def stage(kind: str = "sft", *, peak: int = 400 * MIB, mid: float = 8.0) -> StageForecast:
    return StageForecast(
        kind=kind,  # type: ignore[arg-type]
        variant="full",
        peak_memory_bytes=peak,
        phases={"load": PhaseForecast(peak_memory_bytes=peak, parts=NO_PARTS)},
        parts=NO_PARTS,
        method="fake tensors",
        length=64,
        num_steps=10,
        flops=1e9,
        seconds=seconds(mid),
        throughput=seconds(1e8),
        throughput_source="a guess",
        disk_bytes=0,
        fits=[],
    )


def forecast(plan: Plan, *, peak: int = 400 * MIB, mid: float = 8.0, error: float = 0.1) -> Forecast:
    """Every training stage of `plan` at one peak and one duration."""
    arm = ArmForecast(
        peak_memory_bytes=peak, seconds=seconds(mid), money=None, stages=[stage(peak=peak, mid=mid)]
    )
    return Forecast(
        comparison=plan.comparison.name,
        device=DeviceForecast(name="Test CPU @ 2 GHz", kind="cpu", memory_bytes=8 * 2**30, source="made up"),
        lengths="made up",
        num_train_pairs=100,
        arms=dict.fromkeys(plan.comparison.arms, arm),
        ratio=None,
        total=Total(
            seconds=seconds(mid),
            training_seconds=seconds(mid),
            evaluation_seconds=seconds(0),
            disk_bytes=0,
            energy_kwh=None,
            money=None,
        ),
        currency="USD",
        memory_error=error,
        error_source="made up",
        planned=[
            PlannedForecast(id=one.id, kind=one.kind, peak_memory_bytes=peak, seconds=seconds(mid), flops=1e9)
            for one in plan.stages
            if isinstance(one.settings, TrainSettings)
        ],
        notes=[],
    )
