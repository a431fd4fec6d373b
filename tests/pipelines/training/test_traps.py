"""Quirks of the trainers that would make the arms unequal without a word, each held shut (docs/pitfalls.md)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from pipelines.errors import PipelineError
from pipelines.models import load_base, load_reference
from pipelines.stages import Stage
from pipelines.training.parts import Parts
from pipelines.training.train import make_trainer, train
from tests.pipelines.training import tiny

KINDS = ("sft", "dpo", "orpo")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def trainer_of(root: Path, stage: Stage, tokenizer=None):
    folder = tiny.folder_of(root, stage)
    parts = Parts(
        settings=stage.settings,
        policy=load_base(stage, folder),
        reference_model=load_reference(stage, folder) if stage.kind == "dpo" else None,
        tokenizer=tokenizer or tiny.tokenizer(),
        pairs=tiny.Dataset.from_list(tiny.pairs()),
    )
    return make_trainer(stage, folder, parts)


class LoggedLosses(TrainerCallback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.found += [logs["loss"]] if "loss" in logs else []


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_nan_is_logged_as_nan_and_the_stages_seed_orders_the_pairs(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    default = TrainingArguments("unused").logging_nan_inf_filter  # made first: it resets what trainers share
    stage = tiny.stage(kind, max_steps=1)
    trainer = trainer_of(root, stage)
    assert (trainer.args.seed, trainer.args.data_seed) == (11, 11)
    assert math.isnan(logged_of_nan(trainer, monkeypatch))
    unheld = trainer_of(root, stage.model_copy(update={"id": f"{kind}-unheld"}))
    unheld.args.logging_nan_inf_filter = default
    assert logged_of_nan(unheld, monkeypatch) == 0  # what is held shut


def logged_of_nan(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    """The loss that is logged of one step whose loss is not a number."""
    compute, logged = trainer.compute_loss, LoggedLosses()
    monkeypatch.setattr(trainer, "compute_loss", lambda *given, **named: compute(*given, **named) * math.nan)
    trainer.add_callback(logged)
    trainer.train()
    (loss,) = logged.found
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_turn_is_learnt_where_it_is_also_the_padding(root: Path, kind: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    trainer = trainer_of(root, tiny.stage(kind), tokenizer)
    rows = tiny.pairs()[:4]
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(len(rows))])
    for place, row in enumerate(rows):
        last = len(row["prompt_ids"] + row["chosen_ids"]) - 1
        if "completion_mask" in batch:  # DPO, and the fused ORPO
            assert batch["input_ids"][place, last] == tiny.EOS
            assert batch["completion_mask"][place].nonzero().max() == last
        else:
            labels = batch["labels" if kind == "sft" else "chosen_labels"][place]
            assert labels[last] == tiny.EOS
            assert (labels[last + 1 :] == -100).all()


@pytest.mark.parametrize("kind", KINDS)
def test_more_devices_than_one_are_refused_as_they_would_change_the_effective_batch(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stage = tiny.stage(kind, micro_batch=2, effective_batch=4)
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda _: 3))
    # TRL 1.16's SFTTrainer and DPOTrainer refuse it themselves, ORPOTrainer and transformers' Trainer do not.
    error = PipelineError if kind == "orpo" else ValueError
    said = r"must be 4 pairs a step, .* it would be 12.*CUDA_VISIBLE_DEVICES"
    with pytest.raises(error, match=said if kind == "orpo" else "CUDA_VISIBLE_DEVICES"):
        train(stage, tiny.folder_of(root, stage), tiny.Silent())


@pytest.mark.parametrize(("loss_type", "kept"), [("sigmoid", 0.0), ("robust", 0.2)])
def test_dpos_usual_loss_leaves_label_smoothing_out_and_the_robust_one_does_not(
    root: Path, loss_type: str, kept: float
) -> None:
    """Of TRL 1.16. If the first case fails, TRL smooths it by now: `SMOOTHED_LOSSES` in harness/rules.py."""
    stage = tiny.stage("dpo", label_smoothing=0.2, beta=0.3, loss_type=[loss_type])
    trainer = trainer_of(root, stage)
    with torch.no_grad():  # else policy and reference are one, and the loss ln 2 whatever the smoothing
        trainer.model.lm_head.weight.mul_(1.5)
    rows = tiny.pairs()[:4]
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(len(rows))])
    expected = 0.0
    for row in rows:
        chosen, rejected = (
            sum(
                sign * float(tiny.completion_logprobs(model, row["prompt_ids"], row[side]).sum())
                for sign, model in ((1, trainer.model), (-1, trainer.ref_model))
            )
            for side in ("chosen_ids", "rejected_ids")
        )
        clean, flipped = (math.log1p(math.exp(sign * 0.3 * (chosen - rejected))) for sign in (-1, 1))
        expected += ((1 - kept) * clean - kept * flipped) / (1 - 2 * kept)
    got = trainer.compute_loss(trainer.model, batch).item()
    assert got == pytest.approx(expected / len(rows), rel=1e-5)


def test_the_logged_rewards_of_orpo_are_no_rewards_of_dpo(root: Path) -> None:
    """The two trainers write other things under one name: a report must compare neither with the other."""
    row = tiny.pairs()[0]
    logged = {}
    for kind in ("dpo", "orpo"):
        stage = tiny.stage(kind, beta=0.3, micro_batch=1, effective_batch=1, max_steps=1, learning_rate=0.0)
        trainer = trainer_of(root, stage)
        trainer.train_dataset = trainer.train_dataset.select([0])
        trainer.train()
        logged[kind] = next(one["rewards/margins"] for one in trainer.state.log_history if "loss" in one)
    base = load_base(tiny.stage("sft"), root / "dpo-000000000000")
    chosen, rejected = (
        float(tiny.completion_logprobs(base, row["prompt_ids"], row[side]).mean())
        for side in ("chosen_ids", "rejected_ids")
    )
    assert logged["dpo"] == pytest.approx(0, abs=1e-5)
    assert logged["orpo"] == pytest.approx(0.3 * (chosen - rejected), rel=1e-4)
