"""Trainers that stand still: the gradient of every optimizer step, and what the model received for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from pipelines.data.prepared import read_split, read_tokenizer
from pipelines.models import load_reference
from pipelines.stages import Stage
from pipelines.training import train as train_module
from pipelines.training.parts import Parts
from tests.pipelines.training import tiny
from tests.pipelines.training.formulas import Gradients, Row

BETA = 0.3


class StepGradients(TrainerCallback):
    """Keeps the gradient of every optimizer step."""

    def __init__(self) -> None:
        self.found: list[Gradients] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.found.append(
            {
                name: value.grad.detach().clone()
                for name, value in more["model"].named_parameters()
                if value.grad is not None
            }
        )


class Received:
    """Keeps the rows that a model received, as tuples of ids without padding, one list for each forward pass."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.passes: list[list[tuple[int, ...]]] = []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            rows = zip(ids, kwargs["attention_mask"], strict=True)
            self.passes.append([tuple(row[mask.bool()].tolist()) for row, mask in rows])


def make_trainer(root: Path, stage: Stage, name: str = "trained") -> Trainer:
    folder = tiny.folder_of(root, stage, name)
    parts = Parts(
        settings=stage.settings,
        policy=train_module._trainable_policy(stage, folder),
        reference_model=load_reference(stage, folder) if stage.settings.reference == "copy" else None,
        tokenizer=read_tokenizer(root / tiny.DATA),
        pairs=read_split(root / tiny.DATA, "train"),
    )
    return train_module.make_trainer(stage, folder, parts)


def still(kind: str, *, micro_batch: int, epochs: int = 1, **settings: Any) -> Stage:
    """A stage that never moves its weights, so that the gradients of all steps belong to the same model."""
    beta = {} if kind == "sft" else {"beta": BETA}
    return tiny.stage(
        kind,
        micro_batch=micro_batch,
        effective_batch=4,
        num_train_epochs=epochs,
        learning_rate=0.0,
        optim="sgd",
        max_grad_norm=0.0,
        **beta,
        **settings,
    )


def moved(policy: torch.nn.Module) -> None:
    """Away from where it started: DPO's gradient is then another one for each pair, and LoRA's B is not zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in policy.parameters():
            if value.requires_grad:
                value += 0.1 * torch.randn(value.shape, generator=generator)


def run(root: Path, stage: Stage, name: str) -> tuple[list[Gradients], Received, Trainer]:
    trainer = make_trainer(root, stage, name)
    moved(trainer.model)
    seen, kept = Received(trainer.model), StepGradients()
    trainer.add_callback(kept)
    trainer.train()
    return kept.found, seen, trainer


def rows_in_order(seen: Received, rows: list[Row]) -> list[Row]:
    """The pairs in the order in which they reached the model: the first half of a pass holds the chosen ones."""
    by_ids = {tuple(row["prompt_ids"] + row["chosen_ids"]): row for row in rows}
    return [by_ids[ids] for found in seen.passes for ids in found if ids in by_ids]
