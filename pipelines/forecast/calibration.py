"""A few real steps of a stage's trainer with random weights: what this machine takes for one micro-batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from pipelines.forecast import fakes
from pipelines.forecast.request import CalibrationRequest, StepTimes
from pipelines.models import switch_off_dropout, with_new_adapter
from pipelines.stages import Stage, TrainSettings
from pipelines.training.parts import Parts
from pipelines.training.train import make_trainer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def calibrate(
    config: PretrainedConfig, request: CalibrationRequest, *, seconds: Callable[[], float] = time.perf_counter
) -> StepTimes:
    """Train a model of this shape for a few steps and time them.

    Args:
        config: The model's shape, at its full depth.
        request: Which stage, at which length.
        seconds: The clock.
    """
    torch.set_num_threads(request.threads)
    torch.use_deterministic_algorithms(request.device == "cpu")  # as stages run
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    asked = request.settings
    accumulation = min(asked.effective_batch // asked.micro_batch, 2)
    settings = asked.model_copy(
        update={
            "effective_batch": asked.micro_batch * accumulation,
            "arguments": {**asked.arguments, "max_steps": request.num_steps},
        }
    )
    stage = Stage(
        id=f"{settings.kind}-{0:012x}",
        settings=settings,
        seed=0,
        threads=request.threads,
        device=request.device,
    )
    clock = _StepClock(accumulation, request.device, seconds)
    with TemporaryDirectory() as folder:
        parts = Parts(
            settings=settings,
            policy=_random_policy(config, settings, request.device),
            reference_model=_random_model(config, settings, request.device)
            if settings.reference == "copy"
            else None,
            tokenizer=fakes.tokenizer(),
            pairs=fakes.rows(
                settings.effective_batch * request.num_steps,
                request.length,
                completion_share=request.completion_share,
            ),
        )
        trainer = make_trainer(stage, Path(folder), parts)
        trainer.add_callback(clock)
        trainer.train()
    return StepTimes(micro_seconds=clock.micro_seconds, optimizer_seconds=clock.optimizer_seconds)


def _random_model(config: PretrainedConfig, settings: TrainSettings, device: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config,
        dtype=getattr(torch, settings.weights_dtype),
        attn_implementation=settings.model.attn_implementation,
        trust_remote_code=settings.model.trust_remote_code,
    )
    switch_off_dropout(model)
    return model.to(device)


def _random_policy(config: PretrainedConfig, settings: TrainSettings, device: str) -> PreTrainedModel:
    model = _random_model(config, settings, device)
    if settings.tuning != "full":
        model = with_new_adapter(model, settings.lora, quantized=False)
    model.config.use_cache = False
    return model


class _StepClock(TrainerCallback):
    """Times every step after the first, data loading and logging included, the optimizer's part by itself."""

    def __init__(self, accumulation: int, device: str, seconds: Callable[[], float]) -> None:
        self.micro_seconds: list[float] = []
        self.optimizer_seconds: list[float] = []
        self._accumulation, self._device, self._seconds = accumulation, device, seconds
        self._before_optimizer = self._in_optimizer = 0.0
        self._last_end: float | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The gradients are there."""
        self._before_optimizer = self._now()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The weights are changed."""
        self._in_optimizer = self._now() - self._before_optimizer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is over; the first one set the clock."""
        now = self._now()
        if self._last_end is not None:
            whole = now - self._last_end
            self.micro_seconds.append((whole - self._in_optimizer) / self._accumulation)
            self.optimizer_seconds.append(self._in_optimizer)
        self._last_end = now

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return self._seconds()
