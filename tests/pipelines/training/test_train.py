"""Each pipeline trains, repeats to the bit, and computes the loss that its paper defines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipelines.data.prepared import read_split, read_tokenizer
from pipelines.errors import NotFinite, PipelineError
from pipelines.models import load_base, load_policy, load_reference
from pipelines.training import train as train_module
from pipelines.training.arguments import shared_arguments
from pipelines.training.dpo import dpo_trainer
from pipelines.training.parts import Parts
from pipelines.training.train import train
from tests.pipelines.training import tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def run(root: Path, stage, name: str | None = None):
    return train(stage, tiny.folder_of(root, stage, name), tiny.Silent())


def losses(root: Path, name: str) -> list[float]:
    lines = (root / name / "losses.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_every_trainer_lowers_its_loss_and_leaves_a_plain_checkpoint(
    root: Path, kind: str, tuning: str
) -> None:
    stage = tiny.stage(kind, tuning=tuning)
    outcome = run(root, stage)
    curve = losses(root, stage.id)
    assert len(curve) == outcome.num_steps == 12
    assert sum(curve[-3:]) < sum(curve[:3])
    saved = root / stage.id / "model"
    assert not list(saved.rglob("*.bin"))
    assert (saved / "tokenizer.json").is_file()
    if tuning == "full":
        AutoModelForCausalLM.from_pretrained(saved)
        assert outcome.num_trainable_parameters == outcome.num_parameters
    else:
        base = AutoModelForCausalLM.from_pretrained(root / tiny.BASE / "model")
        PeftModel.from_pretrained(base, saved)
        assert not (saved / "ref").exists()
        assert outcome.num_trainable_parameters < outcome.num_parameters / 2


@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_the_same_stage_gives_the_same_weights_to_the_bit(root: Path, kind: str) -> None:
    stage = tiny.stage(kind, num_train_epochs=1)
    first, second = run(root, stage, "a"), run(root, stage, "b")
    assert first.weights_hash == second.weights_hash
    assert losses(root, "a") == losses(root, "b")


@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_pairs_and_tokens_are_counted_as_the_models_received_them(root: Path, kind: str) -> None:
    rows = tiny.pairs()
    outcome = run(root, tiny.stage(kind, num_train_epochs=2))
    chosen = sum(len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in rows)
    rejected = sum(len(row["prompt_ids"]) + len(row["rejected_ids"]) for row in rows)
    expected = chosen if kind == "sft" else chosen + rejected
    assert outcome.num_pairs_seen == 2 * len(rows)
    assert outcome.num_policy_tokens == 2 * expected
    assert outcome.num_reference_tokens == (2 * expected if kind == "dpo" else 0)


@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_every_batch_of_training_is_made_while_the_observer_is_told_of_waiting(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waits(tiny.Silent):
        is_waiting = False

        @contextmanager
        def waiting(self) -> Iterator[None]:
            self.is_waiting = True
            yield
            self.is_waiting = False

    observer, seen = Waits(), []
    make = train_module.make_trainer

    def with_watched_collator(*parts: Any) -> Any:
        trainer = make(*parts)
        collate = trainer.data_collator

        def watched(rows: Any) -> Any:
            seen.append(observer.is_waiting)
            return collate(rows)

        trainer.data_collator = watched
        return trainer

    monkeypatch.setattr(train_module, "make_trainer", with_watched_collator)
    stage = tiny.stage(kind, num_train_epochs=2, micro_batch=2)
    train(stage, tiny.folder_of(root, stage), observer)
    assert seen == [True] * 12  # 2 epochs of 12 pairs, 2 at a time
    assert observer.is_waiting is False


@pytest.mark.parametrize("nll", ["prompt_and_completion", "completion"])
def test_orpo_computes_the_papers_loss(root: Path, nll: str) -> None:
    beta, rows = 0.3, tiny.pairs()
    stage = tiny.stage("orpo", nll=nll, beta=beta, micro_batch=12, effective_batch=12, num_train_epochs=1)
    outcome = run(root, stage)
    model = load_base(stage, root / stage.id)
    nlls, ratios = [], []
    for row in rows:
        chosen = tiny.completion_logprobs(model, row["prompt_ids"], row["chosen_ids"])
        rejected = tiny.completion_logprobs(model, row["prompt_ids"], row["rejected_ids"])
        everything = tiny.completion_logprobs(
            model, row["prompt_ids"][:1], row["prompt_ids"][1:] + row["chosen_ids"]
        )
        nlls.append(-(everything if nll == "prompt_and_completion" else chosen))
        # arXiv 2403.07691, eqs. 4 to 7: odds(y) = p / (1 - p) with p the length-averaged likelihood.
        p_chosen, p_rejected = chosen.mean().exp(), rejected.mean().exp()
        odds_ratio = (p_chosen / (1 - p_chosen)) / (p_rejected / (1 - p_rejected))
        ratios.append(-torch.log(torch.sigmoid(torch.log(odds_ratio))))
    expected = torch.cat(nlls).mean() + beta * torch.stack(ratios).mean()
    assert outcome.first_loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("nll", ["prompt_and_completion", "completion"])
def test_sft_computes_the_token_mean_of_its_labels(root: Path, nll: str) -> None:
    stage = tiny.stage("sft", nll=nll, micro_batch=12, effective_batch=12, num_train_epochs=1)
    outcome = run(root, stage)
    model = load_base(stage, root / stage.id)
    parts = [
        tiny.completion_logprobs(model, row["prompt_ids"], row["chosen_ids"])
        if nll == "completion"
        else tiny.completion_logprobs(model, row["prompt_ids"][:1], row["prompt_ids"][1:] + row["chosen_ids"])
        for row in tiny.pairs()
    ]
    assert outcome.first_loss == pytest.approx(float(-torch.cat(parts).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("tuning", "reference"),
    [
        ("full", "copy"),
        ("lora", "copy"),
        ("lora", "adapter"),
    ],
)
def test_dpo_starts_from_the_sft_model_and_has_it_as_reference(
    root: Path, tuning: str, reference: str
) -> None:
    sft = tiny.stage("sft", tuning=tuning)
    run(root, sft)
    dpo = tiny.stage("dpo", tuning=tuning, reference=reference, policy=sft.id, num_train_epochs=1)
    outcome = run(root, dpo)
    assert outcome.first_loss == pytest.approx(math.log(2), abs=1e-6)

    folder = root / dpo.id
    sft_model = load_policy(dpo, folder)
    base = load_base(dpo, folder)
    parts = Parts(
        settings=dpo.settings,
        policy=train_module._trainable_policy(dpo, folder),
        reference_model=load_reference(dpo, folder) if reference == "copy" else None,
        tokenizer=read_tokenizer(root / tiny.DATA),
        pairs=read_split(root / tiny.DATA, "train"),
    )
    trainer = dpo_trainer(parts, shared_arguments(dpo, folder))
    for row in tiny.pairs():
        batch = trainer.data_collator([row])
        chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, batch)
        for got, side in ((chosen, "chosen_ids"), (rejected, "rejected_ids")):
            expected = tiny.completion_logprobs(sft_model, row["prompt_ids"], row[side]).sum()
            of_base = tiny.completion_logprobs(base, row["prompt_ids"], row[side]).sum()
            assert float(got) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)
            assert abs(float(got) - float(of_base)) > 1e-3  # a reference that is silently the base


def test_an_infinite_learning_rate_is_reported_with_its_step(root: Path) -> None:
    stage = tiny.stage("sft", learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(NotFinite, match=r"(loss|grad_norm) is (nan|inf) at step \d+ of 12"):
        run(root, stage)


@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_pairs_beyond_the_models_learnt_positions_are_refused_before_training(root: Path, kind: str) -> None:
    shape = {"vocab_size": tiny.VOCABULARY, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(root / tiny.BASE / "model")
    with pytest.raises(PipelineError, match=r"training\.max_length: .* the model has learnt 8 positions"):
        run(root, tiny.stage(kind))
