"""What the harness asks of a forecast's process and what it answers, as JSON. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.stages import DataSettings, ModelSettings, Strict, TrainSettings

MemoryPhase = Literal["load", "reference", "forward", "backward", "step"]
Part = Literal[
    "weights", "gradients", "optimizer", "activations", "logits", "reference", "adapter", "overhead"
]
Device = Literal["cpu", "cuda"]
PHASES: tuple[MemoryPhase, ...] = ("load", "reference", "forward", "backward", "step")
# `overhead`, which tensors do not show, is the harness' to add.
PARTS: tuple[Part, ...] = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "reference",
    "adapter",
    "overhead",
)
PartBytes = dict[Part, int]


class LengthSource(Strict):
    """Where the lengths of the pairs can be read."""

    model: ModelSettings = Field(description="Whose tokenizer.")
    data: DataSettings
    max_length: int
    prepared: str | None = Field(None, description="Folder of a finished data stage; its splits are exact.")


class StageRequest(Strict):
    """One training stage whose memory and work are asked for."""

    settings: TrainSettings
    length: int | None = Field(
        None, description="Tokens of the longest sequence; None: of the request's lengths, or `max_length`."
    )
    micro_batches: list[int] = Field(
        default_factory=list, description="Other micro-batches whose peak is asked for."
    )


class CalibrationRequest(Strict):
    """A few real steps of a stage, with random weights, on this machine."""

    settings: TrainSettings
    length: int = Field(description="Tokens of every sequence.")
    completion_share: float = Field(0.5, description="Of them, those of the reply.")
    num_steps: int = Field(4, ge=2, description="Optimizer steps; the first does not count.")
    threads: int
    device: Device


class ForecastRequest(Strict):
    """Everything that one process is asked for."""

    stages: list[StageRequest] = Field(default_factory=list)
    device: Device = Field(description="Whose kernels the memory is for.")
    lengths: LengthSource | None = Field(None, description="None where the data is not at hand.")
    calibrations: list[CalibrationRequest] = Field(default_factory=list)


class Work(Strict):
    """Floating-point operations of one micro-batch at `length`, padded to it; recomputation is in the backward pass."""

    matmul_flops: float = Field(description="Of the policy, forward and backward; grows with the tokens.")
    attention_flops: float = Field(description="The same, of attention; grows with the square of the tokens.")
    reference_matmul_flops: float
    reference_attention_flops: float


class StageAnswer(Strict):
    """What a training stage needs."""

    phases: dict[MemoryPhase, PartBytes] = Field(
        description="The parts at each phase's peak; they sum to it."
    )
    largest: PartBytes = Field(description="The most that each part gets to, not all at one moment.")
    peak_by_micro_batch: dict[int, int]
    work: Work
    length: int
    num_positions: int | None = Field(
        None, description="That the model was made for, where its config says so."
    )
    num_parameters: int
    num_trainable_parameters: int
    weights_bytes: int = Field(description="Of the trained model as saved: a full model, or an adapter.")
    method: Literal["fake tensors", "fake tensors, 4-bit weights by formula"]


class Lengths(Strict):
    """How long the pairs are, in tokens; nothing is known without the data."""

    source: Literal["prepared data", "sample", "max_length"] = "max_length"
    num_train_pairs: int | None = Field(None, description="None where the data is not at hand.")
    num_test_pairs: int | None = None
    chosen: list[int] = Field(
        default_factory=list, description="Prompt and chosen together, of each pair looked at."
    )
    rejected: list[int] = Field(
        default_factory=list, description="Prompt and rejected together, of the same pairs."
    )

    completion_share: float = Field(
        0.5, description="Of all tokens, those of replies: a fused head works on these alone."
    )

    def padded(self, settings: TrainSettings) -> list[int]:
        """Tokens of the sequences that this trainer pads to: chosen alone in SFT, else the longer of the two."""
        if not self.chosen:
            return [settings.max_length]
        if settings.kind == "sft":
            return self.chosen
        return [max(pair) for pair in zip(self.chosen, self.rejected, strict=True)]


class StepTimes(Strict):
    """What real steps took, one value for each step."""

    micro_seconds: list[float] = Field(description="One micro-batch, all but the optimizer's step.")
    optimizer_seconds: list[float]


class ForecastAnswer(Strict):
    """The answers, in the order of the requests."""

    stages: list[StageAnswer] = Field(default_factory=list)
    lengths: Lengths = Field(default_factory=Lengths)
    calibrations: list[StepTimes] = Field(default_factory=list)
