"""A forecast as `prefduel forecast --json` prints it and as a run keeps it beside its results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.forecast.request import MemoryPhase
from pipelines.stages import Strict

SCHEMA_VERSION = 1


class Range(Strict):
    """A quantity that is not known to the point."""

    low: float
    mid: float
    high: float

    def times(self, factor: float) -> Range:
        """The range of so many times the quantity."""
        return Range(low=self.low * factor, mid=self.mid * factor, high=self.high * factor)


class Parts(Strict):
    """What memory consists of."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int = Field(description="All that is no other part: kept and temporary tensors.")
    logits_bytes: int
    reference_bytes: int
    adapter_bytes: int
    overhead_bytes: int = Field(
        description="What an allocator reserves beyond the tensors, a stated share, and what the process itself holds."
    )


class PhaseForecast(Strict):
    """One phase of a training step."""

    peak_memory_bytes: int
    parts: Parts = Field(description="At this peak: they sum to it.")


class Fit(Strict):
    """What fits a card of one size."""

    card_bytes: int
    micro_batch: int | None = Field(
        description="The largest that divides the effective batch; None: not even 1."
    )
    accumulation: int | None
    peak_memory_bytes: int | None


class StageForecast(Strict):
    """One training stage of an arm, on one seed."""

    kind: Literal["sft", "dpo", "orpo"]
    variant: str = Field(description="Reference or implementation, and what is tuned.")
    peak_memory_bytes: int
    phases: dict[MemoryPhase, PhaseForecast]
    parts: Parts = Field(
        description="The most that each part gets to, not all at one moment; a phase's sum to its peak."
    )
    method: str
    length: int = Field(description="Tokens of the longest sequence.")
    num_steps: int
    flops: float = Field(description="Of the whole stage, reference and recomputation included.")
    seconds: Range = Field(description="Training loop and reference log-probs, as a record's train_seconds.")
    throughput: Range = Field(description="Operations a second behind it; low is the slowest.")
    throughput_source: str
    disk_bytes: int = Field(description="The model that it leaves.")
    fits: list[Fit]


class ArmForecast(Strict):
    """One arm on one seed."""

    peak_memory_bytes: int = Field(description="The highest of its stages.")
    seconds: Range = Field(description="The sum over its stages.")
    money: Range | None
    stages: list[StageForecast]


class Ratio(Strict):
    """The first arm of the decision over the second."""

    arms: tuple[str, str]
    peak_memory: float
    seconds: float
    money: float | None


class DeviceForecast(Strict):
    """What the forecast is for."""

    name: str
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    source: str = Field(description="Why this device.")


class Total(Strict):
    """The whole comparison, each distinct stage once."""

    seconds: Range
    training_seconds: Range
    evaluation_seconds: Range = Field(
        description="Evaluations, and looks at validation pairs during training."
    )
    not_forecast: list[str] = Field(
        default_factory=list, description="Stages whose time nothing tells: it is in no sum."
    )
    disk_bytes: int
    energy_kwh: Range | None
    money: Range | None


class PlannedForecast(Strict):
    """A distinct training stage of the plan, to be set beside its record later."""

    id: str
    kind: str
    peak_memory_bytes: int
    seconds: Range
    flops: float


class Forecast(Strict):
    """The whole forecast."""

    schema_version: Literal[1] = Field(1, alias="schema")
    comparison: str
    device: DeviceForecast
    lengths: str = Field(description="Where the lengths of the pairs come from.")
    num_train_pairs: int
    arms: dict[str, ArmForecast]
    ratio: Ratio | None = Field(description="None where the decision's arms are not both forecast.")
    total: Total
    currency: str
    memory_error: float = Field(
        description="Relative error of earlier forecasts of memory on this kind of device, or the stated one."
    )
    seconds_factor: float | None = Field(
        None,
        description="Nine of ten of those stages took their forecast seconds times or divided by at most this.",
    )
    error_source: str
    planned: list[PlannedForecast]
    notes: list[str]
