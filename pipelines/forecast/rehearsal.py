"""A training stage rehearsed on fake tensors: the stage's own trainer runs two steps, and its memory is followed."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from peft import PeftModel
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import TrainerCallback
from trl.kernels import chunked_logprob
from trl.trainer import dpo_trainer

from pipelines.forecast import fakes
from pipelines.forecast.request import Device, MemoryPhase, PartBytes
from pipelines.forecast.storages import Flops, Moment, StorageTracker
from pipelines.stages import Stage, TrainSettings
from pipelines.training import fused_orpo
from pipelines.training.parts import Parts
from pipelines.training.train import make_trainer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, Trainer

STEPS = 2  # from the second step on the optimizer has its states
FUSED_HEAD_WIDTH = 32768  # tiles of TRL 1.16's fused head
PAGE_BYTES = 4096
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Rehearsal:
    """What two steps needed.

    Attributes:
        peaks: The parts at the peak of each moment.
        flops: Of one micro-batch, by phase.
    """

    peaks: dict[Moment, PartBytes]
    flops: dict[MemoryPhase, Flops]


def rehearse(config: PretrainedConfig, settings: TrainSettings, *, length: int, device: Device) -> Rehearsal:
    """Run two optimizer steps of a training stage on fake tensors.

    Args:
        config: The model's shape; its depth may be less than the real one's.
        settings: The stage. More than two micro-batches a step need no more memory than two.
        length: Tokens of every sequence.
        device: Whose kernels are meant.
    """
    accumulation = min(settings.effective_batch // settings.micro_batch, 2)
    settings = settings.model_copy(
        update={
            "effective_batch": settings.micro_batch * accumulation,
            "arguments": {**settings.arguments, "max_steps": STEPS},
        }
    )
    num_micro_batches = STEPS * accumulation
    policy = fakes.meta_policy(config, settings)
    reference = fakes.meta_model(config, settings) if settings.reference == "copy" else None
    tracker = StorageTracker(_logit_widths(config.vocab_size, settings, device))
    with (
        TemporaryDirectory() as folder,
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
        tracker,
        mock.patch.object(torch.nn.Module, "to", fakes.to_in_place),
        _fused_head_of(device, tracker),
        # It would read all weights, to name a cache that the stages do not use.
        mock.patch.object(dpo_trainer, "hash_module", return_value=""),
        # It compares log-probs, and fakes have none.
        mock.patch.object(fused_orpo, "check_head"),
    ):
        models = [fakes.into_fakes(model) for model in (policy, reference) if model is not None]
        _tag_weights(models[0], models[1:], tracker)
        for model in models:
            _mark_places(model, tracker)
        parts = Parts(
            settings=settings,
            policy=models[0],
            reference_model=models[1] if reference is not None else None,
            tokenizer=fakes.tokenizer(),
            pairs=fakes.rows(settings.micro_batch, length),
        )
        trainer = make_trainer(_stage(settings), Path(folder), parts)
        _tag_weights(models[0], models[1:], tracker)  # the trainer may have added a frozen adapter
        batches = fakes.FakeBatches(trainer, mode, micro_batch=settings.micro_batch, count=num_micro_batches)
        if settings.reference == "precomputed":
            with tracker.within("reference", "start"):  # the stage before this one
                trainer.compute_ref_log_probs(trainer.model, next(iter(batches)))
        trainer.get_train_dataloader = lambda: batches
        _mark_phases(trainer, tracker)
        trainer.train()
    return Rehearsal(
        peaks=tracker.peaks,
        flops={
            # The pass of the stage before, for precomputed log-probs, is one micro-batch long.
            phase: Flops(*(count / (1 if _once(phase, settings) else num_micro_batches) for count in flops))
            for phase, flops in tracker.flops.items()
        },
    )


def _logit_widths(vocabulary: int, settings: TrainSettings, device: Device) -> dict[int, float]:
    """Widths of logits, each with the share of the storage that is written.

    The fused head takes a tile of its full width also for a smaller vocabulary. Of what it does not write a CPU's process
    holds no page; CUDA's allocator reserves all of it.
    """
    written = 1.0
    if device == "cpu":
        pages = math.ceil(vocabulary * BYTES[settings.dtype] / PAGE_BYTES) * PAGE_BYTES
        written = min(1.0, pages / (FUSED_HEAD_WIDTH * BYTES[settings.dtype]))
    return {FUSED_HEAD_WIDTH: written, vocabulary: 1.0}


def _once(phase: MemoryPhase, settings: TrainSettings) -> bool:
    return phase == "reference" and settings.reference == "precomputed"


def _stage(settings: TrainSettings) -> Stage:
    return Stage(id=f"{settings.kind}-{0:012x}", settings=settings, seed=0, threads=1, device="cpu")


def _tag_weights(policy: PreTrainedModel, references: list[PreTrainedModel], tracker: StorageTracker) -> None:
    """Say which part every parameter belongs to, and have each gradient say so when it is made."""
    adapted = isinstance(policy, PeftModel)
    for name, parameter in policy.named_parameters():
        if ".ref." in name:
            tracker.tag(parameter, "reference")
        elif adapted and parameter.requires_grad:
            tracker.tag(parameter, "adapter")
        else:
            tracker.tag(parameter, "weights")
        if parameter.requires_grad and not getattr(parameter, "_followed", False):
            parameter._followed = True
            parameter.register_post_accumulate_grad_hook(lambda p: tracker.tag(p.grad, "gradients"))
    for reference in references:
        for parameter in reference.parameters():
            tracker.tag(parameter, "reference")


def _mark_places(model: PreTrainedModel, tracker: StorageTracker) -> None:
    """Moments begin at the model's borders, its first and its last layer, forwards and backwards."""
    layers = _layers(model)
    for number, layer in enumerate(layers):
        place = "first layer" if number == 0 else "last layer" if number == len(layers) - 1 else "between"
        layer.register_forward_pre_hook(lambda *_, place=place: tracker.at(place=place))
        layer.register_forward_hook(
            lambda _module, _inputs, output, place=place: _mark_backward(output, place, tracker)
        )
    layers[-1].register_forward_hook(lambda *_: tracker.at(place="head"))
    open_passes: list[AbstractContextManager[None]] = []

    def enter(*_: Any) -> None:
        if not torch.is_grad_enabled():
            open_passes.append(tracker.within("reference", "start"))
            open_passes[-1].__enter__()

    def leave(*_: Any) -> None:
        if open_passes and not torch.is_grad_enabled():
            open_passes.pop().__exit__(None, None, None)

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave)


def _mark_backward(output: Any, place: str, tracker: StorageTracker) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if hidden.requires_grad:
        hidden.register_hook(lambda _gradient: tracker.at(place=place))


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    depth = model.config.num_hidden_layers
    return next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    )


def _mark_phases(trainer: Trainer, tracker: StorageTracker) -> None:
    """Forward, backward and step begin where the trainer begins them."""
    compute_loss, backward = trainer.compute_loss, trainer.accelerator.backward

    @functools.wraps(compute_loss)
    def forward_phase(*arguments: Any, **named: Any) -> Any:
        tracker.at(phase="forward", place="start")
        return compute_loss(*arguments, **named)

    def backward_phase(*arguments: Any, **named: Any) -> None:
        tracker.at(phase="backward", place="head")
        backward(*arguments, **named)
        tracker.at(phase="step", place="start")

    trainer.compute_loss = forward_phase
    trainer.accelerator.backward = backward_phase
    trainer.add_callback(_OptimizerStates(tracker))


class _OptimizerStates(TrainerCallback):
    def __init__(self, tracker: StorageTracker) -> None:
        self._tracker = tracker

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Tag the states as soon as they are there; the step counters, four bytes a parameter, are no states."""
        for states in optimizer.state.values():
            for state_tensor in states.values():
                if isinstance(state_tensor, torch.Tensor) and state_tensor.dim() > 0:
                    self._tracker.tag(state_tensor, "optimizer")


@contextlib.contextmanager
def _fused_head_of(device: Device, tracker: StorageTracker) -> Iterator[None]:
    """On CUDA the fused head of TRL 1.16 works inside its tile, by Triton kernels and one GEMM; on a CPU it copies it."""
    if device == "cpu":
        yield
        return

    def without_copies(function: Any) -> Any:
        @functools.wraps(function)
        def quiet(*arguments: Any, **named: Any) -> Any:
            with tracker.unseen():
                return function(*arguments, **named)

        return quiet

    with contextlib.ExitStack() as stack:
        for name in ("_forward_tile", "_backward_tile", "_addmm_fp32"):
            function = getattr(chunked_logprob, name)
            stack.enter_context(mock.patch.object(chunked_logprob, name, without_copies(function)))
        yield
