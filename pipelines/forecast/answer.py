"""Answers a forecast's request, part by part."""

from __future__ import annotations

import datasets
import transformers

from pipelines.errors import PipelineError
from pipelines.forecast.calibration import calibrate
from pipelines.forecast.lengths import lengths_of
from pipelines.forecast.memory import stage_answer
from pipelines.forecast.request import (
    Device,
    ForecastAnswer,
    ForecastRequest,
    Lengths,
    StageAnswer,
    StageRequest,
)
from pipelines.forecast.shapes import shape_of


def answer(request: ForecastRequest) -> ForecastAnswer:
    """All that `request` asks for.

    Raises:
        PipelineError: a shape is not known here, the data is malformed, or a stage cannot be rehearsed.
    """
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    lengths = lengths_of(request.lengths) if request.lengths is not None else Lengths()
    return ForecastAnswer(
        lengths=lengths,
        stages=[_stage(stage, request.device, lengths) for stage in request.stages],
        calibrations=[calibrate(shape_of(one.settings.model), one) for one in request.calibrations],
    )


def _stage(stage: StageRequest, device: Device, lengths: Lengths) -> StageAnswer:
    config = shape_of(stage.settings.model)
    try:
        return stage_answer(
            config,
            stage.settings,
            length=stage.length or max(lengths.padded(stage.settings)),
            device=device,
            micro_batches=stage.micro_batches,
        )
    except (TypeError, ValueError) as error:
        # A trainer's argument that does not go with the rest, as the stage itself would find out.
        raise PipelineError(f"{stage.settings.kind} stage: {error}") from error
