"""What the recorder notes is what the model received and what its loss was taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import LlamaModel

from pipelines.data.fingerprints import ids_hash
from pipelines.stages import Stage
from pipelines.training.recording import BATCHES, SAMPLED_STEPS, Prepared, Recorder
from pipelines.training.train import train
from tests.pipelines.training import tiny

KINDS = ("sft", "dpo", "orpo", "fused")
Line = dict[str, Any]


def recorded(folder: Path) -> list[Line]:
    return [json.loads(line) for line in (folder / BATCHES).read_text().splitlines()]


def sequences(lines: list[Line], side: str) -> list[Line]:
    return [found for line in lines for found in line["sequences"] if found["side"] == side]


def made(kind: str, **shape: Any) -> Stage:
    if kind == "fused":
        return tiny.stage("orpo", implementation="fused", mean_over="step", **shape)
    return tiny.stage(kind, **shape)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of each trainer: 10 pairs in steps of 4, two micro-batches each."""
    root = tmp_path_factory.mktemp("recorded")
    tiny.make_inputs(root, rows=tiny.pairs(10))
    for kind in KINDS:
        stage = made(kind, micro_batch=2, effective_batch=4, num_train_epochs=2)
        train(stage, tiny.folder_of(root, stage, kind), tiny.Silent())
    return root


def test_all_trainers_receive_the_prepared_pairs_with_the_same_hashes_in_the_same_order(root: Path) -> None:
    rows = {row["uid"]: row for row in tiny.pairs(10)}
    received = {kind: sequences(recorded(root / kind), "chosen") for kind in KINDS}
    assert [found["uid"] for found in received["sft"][:10]] != list(rows)  # they are shuffled
    for kind in KINDS:
        uids = [found["uid"] for found in received[kind]]
        assert sorted(uids[:10]) == sorted(uids[10:]) == sorted(rows)
        assert uids == [found["uid"] for found in received["sft"]]
        for side in ("chosen", "rejected"):
            for found in sequences(recorded(root / kind), side):
                ids = rows[found["uid"]]["prompt_ids"] + rows[found["uid"]][f"{side}_ids"]
                assert (found["ids"], found["tokens"], found["ends"]) == (ids_hash(ids), len(ids), 1)
    assert [len(sequences(recorded(root / kind), "rejected")) for kind in KINDS] == [0, 20, 20, 20]


def test_each_line_has_its_optimizer_step_and_its_place_within_it(root: Path) -> None:
    for kind in KINDS:
        # The tenth pair of each epoch is alone in its step.
        places = [(line["step"], line["micro"]) for line in recorded(root / kind)]
        assert places == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (4, 0), (4, 1), (5, 0), (5, 1), (6, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_has_the_same_sequences_however_the_effective_batch_is_cut(
    root: Path, tmp_path: Path, kind: str
) -> None:
    """`root` has micro-batches of 2, and the last step of an epoch is smaller than the others."""
    tiny.make_inputs(tmp_path, rows=tiny.pairs(10))
    for micro_batch in (4, 1):
        stage = made(kind, micro_batch=micro_batch, effective_batch=4, num_train_epochs=2)
        folder = tiny.folder_of(tmp_path, stage, f"{micro_batch}")
        train(stage, folder, tiny.Silent())
        assert len(recorded(folder)) == {4: 6, 1: 20}[micro_batch]
        for side in ("chosen", "rejected"):
            assert of_steps(recorded(folder), side) == of_steps(recorded(root / kind), side)
        assert of_steps(recorded(folder), "chosen") == of_steps(recorded(root / "sft"), "chosen")


def of_steps(lines: list[Line], side: str) -> list[tuple[int, str, str]]:
    """Optimizer step, pair and ids of every sequence, in the order in which the model got them."""
    return [
        (line["step"], found["uid"], found["ids"])
        for line in lines
        for found in line["sequences"]
        if found["side"] == side
    ]


@pytest.mark.parametrize(
    ("kind", "nll"),
    [
        ("sft", "completion"),
        ("sft", "prompt_and_completion"),
        ("dpo", None),
        ("orpo", "completion"),
        ("orpo", "prompt_and_completion"),
        ("fused", "prompt_and_completion"),
    ],
)
def test_the_positions_noted_are_those_that_the_loss_sends_a_gradient_to(
    tmp_path: Path, kind: str, nll: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.make_inputs(tmp_path)
    gradients: list[torch.Tensor] = []
    forward = LlamaModel.forward

    def watched(self: LlamaModel, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if output.last_hidden_state.requires_grad:
            output.last_hidden_state.register_hook(gradients.append)
        return output

    monkeypatch.setattr(LlamaModel, "forward", watched)
    stage = made(kind, nll=nll, micro_batch=12, effective_batch=12, num_train_epochs=1)
    train(stage, tiny.folder_of(tmp_path, stage), tiny.Silent())
    (line,) = recorded(tmp_path / stage.id)
    (gradient_bth,) = gradients
    for found, gradient in zip(line["sequences"], gradient_bth, strict=True):
        # The state at a position predicts the token after it.
        predicted = np.flatnonzero((gradient != 0).any(-1).numpy()) + 1
        assert found["loss"] == ",".join(
            [f"{predicted[0]}-{predicted[-1]}" if len(predicted) > 1 else f"{predicted[0]}"]
        )
        assert len(predicted) == predicted[-1] - predicted[0] + 1


def test_the_passes_of_the_reference_are_not_noted(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    sft = tiny.stage("sft", tuning="lora", num_train_epochs=1)
    train(sft, tiny.folder_of(tmp_path, sft), tiny.Silent())
    dpo = tiny.stage("dpo", tuning="lora", reference="adapter", policy=sft.id, num_train_epochs=1)
    outcome = train(dpo, tiny.folder_of(tmp_path, dpo), tiny.Silent())
    lines = recorded(tmp_path / dpo.id)
    assert outcome.num_reference_tokens == outcome.num_policy_tokens
    assert len(lines) == outcome.num_steps == 3
    assert sum(found["tokens"] for line in lines for found in line["sequences"]) == outcome.num_policy_tokens


def test_sampled_notes_every_sixteenth_step_whole(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    stage = tiny.stage("sft", micro_batch=2, effective_batch=4, num_train_epochs=6)
    settings = stage.settings.model_copy(update={"recording": "sampled"})
    train(stage.model_copy(update={"settings": settings}), tiny.folder_of(tmp_path, stage), tiny.Silent())
    places = [(line["step"], line["micro"]) for line in recorded(tmp_path / stage.id)]
    assert places == [(1, 0), (1, 1), (1 + SAMPLED_STEPS, 0), (1 + SAMPLED_STEPS, 1)]


class FakeTrainer:
    """A model, a state and a loss that calls the model, as a trainer that goes on from step `at`."""

    def __init__(self, at: int) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.model.forward = lambda input_ids, **_: input_ids  # type: ignore[method-assign]
        self.state = type("State", (), {"global_step": at})()

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        model(**inputs)

    def add_callback(self, callback: Recorder) -> None:
        pass

    remove_callback = add_callback


def test_a_pair_is_known_by_both_replies_and_through_an_added_token() -> None:
    rows = [
        {"uid": "a", "prompt_ids": [2, 3], "chosen_ids": [4, 1], "rejected_ids": [5, 1]},
        {"uid": "b", "prompt_ids": [2, 3], "chosen_ids": [4, 1], "rejected_ids": [6, 1]},
    ]
    prepared = Prepared(Dataset.from_list(rows))
    chosen, rejected = [2, 3, 4, 1], [2, 3, 6, 1]

    def uid(**pair: list[int]) -> str | None:
        sequences = {side: [np.array(ids)] for side, ids in pair.items()}
        hashes = {side: [ids_hash(ids)] for side, ids in pair.items()}
        return prepared.uids(sequences, hashes)[0]

    assert uid(chosen=chosen) == "a"
    assert uid(chosen=chosen, rejected=rejected) == "b"
    assert uid(chosen=[9, *chosen], rejected=rejected) == "b"
    assert uid(chosen=[*chosen, 1]) == "a"
    assert uid(chosen=rejected) is None


@pytest.mark.parametrize("mask", [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
def test_padding_on_either_side_counts_for_nothing_and_gaps_in_the_labels_are_kept(
    tmp_path: Path, mask: list[int]
) -> None:
    ids = torch.full((1, 6), tiny.PAD)
    labels = torch.full((1, 6), -100)
    kept = torch.tensor([mask]).bool()
    ids[kept], labels[kept] = torch.tensor([4, 5, 6, tiny.EOS]), torch.tensor([-100, 5, -100, tiny.EOS])
    trainer = FakeTrainer(at=0)
    prepared = Prepared(Dataset.from_list(tiny.pairs()))
    ends = [tiny.EOS, tiny.PAD]
    with Recorder(trainer, prepared, tmp_path, end_of_turn_ids=ends, paired=False, whole_chosen=False):
        batch = {"input_ids": ids, "attention_mask": torch.tensor([mask]), "labels": labels}
        trainer.compute_loss(trainer.model, batch)
    (found,) = recorded(tmp_path)[0]["sequences"]
    assert found == {
        "uid": None,
        "side": "chosen",
        "ids": ids_hash([4, 5, 6, tiny.EOS]),
        "loss": "1,3",
        "tokens": 4,
        "ends": 1,
    }
