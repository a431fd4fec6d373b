"""What a training stage needs at its full depth, from rehearsals of models with two and with three layers.

Every layer needs as much as the next, so memory is a straight line in their number. It is drawn moment by moment: at
two layers another moment may be the highest than at eighty.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipelines.forecast import quantized
from pipelines.forecast.fakes import meta_policy, of_depth
from pipelines.forecast.rehearsal import Rehearsal, rehearse
from pipelines.forecast.request import (
    PHASES,
    Device,
    MemoryPhase,
    Part,
    PartBytes,
    StageAnswer,
    Work,
)
from pipelines.forecast.storages import Flops, Moment
from pipelines.models import count_parameters
from pipelines.stages import TrainSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SHALLOW, DEEPER = 2, 3
MOST_LAYERS_AS_THEY_ARE = 4


def stage_answer(
    config: PretrainedConfig,
    settings: TrainSettings,
    *,
    length: int,
    device: Device,
    micro_batches: list[int],
) -> StageAnswer:
    """Memory and work of a stage.

    Args:
        config: The model's shape.
        settings: The stage.
        length: Tokens of the longest sequence.
        device: Whose kernels are meant.
        micro_batches: Others whose peak is asked for; it is drawn as a line through two of them, with accumulation.
    """
    at_length = partial(_full_depth, config, length=length, device=device)
    own = at_length(settings)
    policy = meta_policy(config, settings)
    num_parameters, num_trainable = count_parameters(policy)
    weight_size = next(
        parameter for parameter in policy.parameters() if parameter.requires_grad
    ).element_size()
    return StageAnswer(
        phases={phase: parts for phase in PHASES if (parts := _peak_of(phase, own.peaks)) is not None},
        largest=_largest(own.peaks),
        peak_by_micro_batch=_peaks(settings, micro_batches, own, at_length) if micro_batches else {},
        work=_work(own),
        length=length,
        num_positions=getattr(config, "max_position_embeddings", None),
        num_parameters=num_parameters,
        num_trainable_parameters=num_trainable,
        weights_bytes=num_trainable * weight_size,
        method="fake tensors, 4-bit weights by formula" if settings.tuning == "qlora" else "fake tensors",
    )


def _full_depth(
    config: PretrainedConfig, settings: TrainSettings, *, length: int, device: Device
) -> Rehearsal:
    """A rehearsal of the whole model: as it is where it has few layers, else extrapolated."""
    depth = config.num_hidden_layers
    run = partial(rehearse, settings=settings, length=length, device=device)
    if depth <= MOST_LAYERS_AS_THEY_ARE:
        return quantized.corrected(run(config), config, settings)
    low, high = run(of_depth(config, SHALLOW)), run(of_depth(config, DEEPER))
    steps = (depth - SHALLOW) / (DEEPER - SHALLOW)
    whole = Rehearsal(
        peaks={moment: _line(low.peaks[moment], high.peaks[moment], steps) for moment in low.peaks},
        flops={
            phase: Flops(
                *(a + steps * (b - a) for a, b in zip(low.flops[phase], high.flops[phase], strict=True))
            )
            for phase in low.flops
        },
    )
    return quantized.corrected(whole, config, settings)


def _peaks(
    settings: TrainSettings, micro_batches: list[int], own: Rehearsal, at_length: partial[Rehearsal]
) -> dict[int, int]:
    """The peak at each of `micro_batches`, with gradients that wait for the step's other micro-batches."""

    def of_size(size: int) -> Rehearsal:
        if size == settings.micro_batch and settings.effective_batch > size:
            return own
        return at_length(settings.model_copy(update={"micro_batch": size, "effective_batch": 2 * size}))

    first, second = settings.micro_batch, 2 * settings.micro_batch
    low, high = of_size(first).peaks, of_size(second).peaks
    return {
        size: max(
            sum(_line(low[moment], high[moment], (size - first) / (second - first)).values())
            for moment in low
        )
        for size in micro_batches
    }


def _line(low: PartBytes, high: PartBytes, steps: float) -> PartBytes:
    """`low` plus so many times what lies between it and `high`; no part gets below zero."""
    return {part: _at_least_zero(low.get(part, 0), high.get(part, 0), steps) for part in _parts(low, high)}


def _parts(low: PartBytes, high: PartBytes) -> list[Part]:
    return [*low, *(part for part in high if part not in low)]


def _at_least_zero(low: int, high: int, steps: float) -> int:
    return max(0, round(low + steps * (high - low)))


def _peak_of(phase: MemoryPhase, peaks: dict[Moment, PartBytes]) -> PartBytes | None:
    of_phase = [parts for moment, parts in peaks.items() if moment.phase == phase]
    return max(of_phase, key=lambda parts: sum(parts.values()), default=None)


def _largest(peaks: dict[Moment, PartBytes]) -> PartBytes:
    """The most that each part gets to."""
    return {
        part: max(parts.get(part, 0) for parts in peaks.values())
        for part in dict.fromkeys(part for parts in peaks.values() for part in parts)
    }


def _work(rehearsal: Rehearsal) -> Work:
    forward, backward, reference = (
        rehearsal.flops.get(phase, Flops()) for phase in ("forward", "backward", "reference")
    )
    return Work(
        matmul_flops=forward.matmul + backward.matmul,
        attention_flops=forward.attention + backward.attention,
        reference_matmul_flops=reference.matmul,
        reference_attention_flops=reference.attention,
    )
