"""Looks at validation pairs during training: right numbers, the same points everywhere, no trace in the training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from pipelines.errors import PipelineError
from pipelines.outcomes import TrainOutcome
from pipelines.stages import Stage
from pipelines.training import validation
from pipelines.training.selection import BEST, best_step
from pipelines.training.train import train
from pipelines.training.validation import VALIDATION, means, read_rows, steps_of_points
from pipelines.training.watching import LOSSES
from tests.pipelines.training import tiny

KINDS: dict[str, dict[str, Any]] = {
    "sft": {"kind": "sft"},
    "dpo": {"kind": "dpo"},
    "dpo-adapter": {"kind": "dpo", "tuning": "lora", "reference": "adapter"},
    "orpo": {"kind": "orpo"},
    "orpo-lora": {"kind": "orpo", "tuning": "lora", "implementation": "fused"},
}


class Recorded(tiny.Silent):
    """An observer whose clock goes on by 1 s whenever it is asked, and that notes what is apart from training."""

    def __init__(self) -> None:
        super().__init__()
        self.asides: list[str] = []
        self.clock = 0.0

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        self.asides.append(name)
        yield

    def seconds(self) -> dict[str, float]:
        self.clock += 1
        return {"load": 5.0, "train": self.clock, "validate": 100.0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def with_looks(made: Stage, **changes: Any) -> Stage:
    looked = {"eval_every": 0.25, "eval_pairs": 5} | changes
    return made.model_copy(update={"settings": made.settings.model_copy(update=looked)})


def trained(
    root: Path, made: Stage, name: str, observer: tiny.Silent | None = None
) -> tuple[Path, TrainOutcome]:
    folder = tiny.folder_of(root, made, name)
    return folder, train(made, folder, observer or tiny.Silent())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_looking_leaves_every_number_of_the_training_as_it_is(root: Path, kind: dict[str, Any]) -> None:
    made = tiny.stage(**kind)
    without, first = trained(root, made, "without")
    looked, second = trained(root, with_looks(made), "with")
    assert second == first  # weights' hash, tokens of policy and reference, losses, probes
    for name in (LOSSES, "batches.jsonl"):
        assert (looked / name).read_bytes() == (without / name).read_bytes()
    assert not (without / VALIDATION).exists()
    assert len(read_rows(looked / VALIDATION)) == 2 * 5


def test_test_pairs_are_looked_at_where_asked_and_change_nothing(root: Path) -> None:
    swapped = [
        pair
        | {"uid": f"t{pair['uid']}", "chosen_ids": pair["rejected_ids"], "rejected_ids": pair["chosen_ids"]}
        for pair in tiny.pairs()
    ]
    shutil.rmtree(root / tiny.DATA / "splits" / "test")
    Dataset.from_list(swapped).save_to_disk(root / tiny.DATA / "splits" / "test")
    made = tiny.stage("orpo")
    asked = {"select": "best_validation", "select_by": "preference_margin"}
    without, first = trained(root, with_looks(made, **asked), "without")
    looked, second = trained(root, with_looks(made, **asked, eval_test=True), "with")
    assert second == first  # the weights of the same look among them
    held = read_rows(looked / VALIDATION)
    assert [row for row in held if row["split"] != "test"] == read_rows(without / VALIDATION)
    tested = [row for row in held if row["split"] == "test"]
    assert [row["step"] for row in tested] == [row["step"] for row in held if row["split"] == "validation"]
    # The same pairs with the replies in each other's place.
    assert [-row["preference_margin"] for row in tested] == pytest.approx(
        [row["preference_margin"] for row in held if row["split"] == "validation"], abs=1e-5
    )


def test_random_state_is_as_before_a_look(root: Path) -> None:
    """With an adapter that is initialised by chance after each look, a drawn number would show."""
    made = with_looks(tiny.stage("sft", num_train_epochs=1))
    folder = tiny.folder_of(root, made)
    states = []
    take = validation.ValidationPoints._take

    def watched(self: Any, step: int) -> None:
        before = torch.get_rng_state()
        take(self, step)
        states.append(torch.equal(before, torch.get_rng_state()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.ValidationPoints, "_take", watched)
        train(made, folder, tiny.Silent())
    assert states == [True] * 4  # the start, and after each of three steps


@pytest.mark.parametrize("kind", ["sft", "dpo-adapter", "orpo"])
def test_a_point_has_the_means_of_the_log_probs_by_hand(root: Path, kind: str) -> None:
    made = with_looks(tiny.stage(**KINDS[kind]))
    folder, _ = trained(root, made, "with")
    if KINDS[kind].get("tuning") == "lora":
        from peft import AutoPeftModelForCausalLM

        adapted = json.loads((folder / "model" / "adapter_config.json").read_text())
        (folder / "model" / "adapter_config.json").write_text(
            json.dumps(adapted | {"base_model_name_or_path": str(root / tiny.BASE / "model")})
        )
        model = AutoPeftModelForCausalLM.from_pretrained(folder / "model")
    else:
        model = AutoModelForCausalLM.from_pretrained(folder / "model")
    last = [row for row in read_rows(folder / VALIDATION) if row["split"] == "validation"][-1]
    pairs = sorted(tiny.pairs(), key=lambda pair: pair["uid"])[:5]
    chosen, rejected = (
        [tiny.completion_logprobs(model, pair["prompt_ids"], pair[side]) for pair in pairs]
        for side in ("chosen_ids", "rejected_ids")
    )
    margins = [float(c.mean() - r.mean()) for c, r in zip(chosen, rejected, strict=True)]
    expected = {
        "preference_accuracy": sum(margin > 0 for margin in margins) / 5,
        "preference_margin": sum(margins) / 5,
        "chosen_nll": -sum(float(c.mean()) for c in chosen) / 5,
        "chosen_logprob_sum": sum(float(c.sum()) for c in chosen) / 5,
        "rejected_logprob_sum": sum(float(r.sum()) for r in rejected) / 5,
    }
    assert {name: last[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert last["num_pairs"] == 5


def test_dpo_starts_where_sft_ended(root: Path) -> None:
    """The same pairs in both stages, and the same weights: the same numbers."""
    sft = with_looks(tiny.stage("sft"))
    folder, _ = trained(root, sft, sft.id)
    after, _ = trained(root, with_looks(tiny.stage("dpo", policy=sft.id)), "after")
    names = [*validation.METRICS, "split", "num_pairs"]
    ended, started = (
        [{name: row[name] for name in names} for row in read_rows(path / VALIDATION)]
        for path in (folder, after)
    )
    assert started[:2] == ended[-2:]


def test_a_head_that_is_not_known_is_asked_as_a_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = trained(root, with_looks(tiny.stage("sft")), "known")

    def refuse(_: object) -> None:
        raise PipelineError("not known here")

    monkeypatch.setattr(validation, "check_head", refuse)
    whole, _ = trained(root, with_looks(tiny.stage("sft")), "whole")
    for one, other in zip(read_rows(known / VALIDATION), read_rows(whole / VALIDATION), strict=True):
        assert other == pytest.approx(one, abs=1e-5)


def test_points_have_tokens_and_seconds_without_those_of_looking(root: Path) -> None:
    observer = Recorded()
    folder, outcome = trained(root, with_looks(tiny.stage("dpo")), "with", observer)
    rows = [row for row in read_rows(folder / VALIDATION) if row["split"] == "validation"]
    assert [row["step"] for row in rows] == [0, 3, 6, 9, 12]
    assert [row["train_seconds"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["total_seconds"] for row in rows] == [6, 7, 8, 9, 10]
    assert [rows[0]["num_policy_tokens"], rows[-1]["num_policy_tokens"]] == [0, outcome.num_policy_tokens]
    assert rows[-1]["num_reference_tokens"] == outcome.num_reference_tokens > 0
    assert set(observer.asides) == {"validate"}


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (0.1, 100, set(range(10, 101, 10))),
        (0.1, 3, {1, 2, 3}),
        (0.3, 10, {3, 6, 9, 10}),
        (1.0, 7, {7}),
        (0.1, 52, {5, 10, 16, 21, 26, 31, 36, 42, 47, 52}),
    ],
)
def test_points_are_shares_of_the_steps_and_the_last_is_one(
    every: float, steps: int, expected: set[int]
) -> None:
    assert steps_of_points(every, steps) == expected


def test_a_number_that_is_not_finite_is_null() -> None:
    broken = validation.PairLogprobs(float("nan"), -2.0, 2, 2)
    assert means([broken])["chosen_nll"] is None


def rows(*values: float | None) -> list[dict[str, Any]]:
    return [
        {"split": split, "step": step, "preference_accuracy": value, "chosen_nll": value}
        for step, value in enumerate(values)
        for split in ("validation", "train")
    ]


def test_the_best_is_the_earliest_of_the_best_after_the_start() -> None:
    assert best_step(rows(0.9, 0.5, 0.8, 0.8, 0.7), "preference_accuracy") == 2
    assert best_step(rows(0.1, 0.5, 0.4, 0.4, 0.7), "chosen_nll") == 2
    assert best_step(rows(0.1, None, 0.4), "chosen_nll") == 2
    assert best_step(rows(0.1), "chosen_nll") is None


@pytest.mark.parametrize("kind", ["sft", "orpo-lora"])
def test_the_weights_that_are_left_are_those_of_the_best_look(root: Path, kind: str) -> None:
    # Where chosen and rejected have changed places, the margin falls while the model trains: the first look is the best.
    swapped = [
        pair | {"chosen_ids": pair["rejected_ids"], "rejected_ids": pair["chosen_ids"]}
        for pair in tiny.pairs()
    ]
    shutil.rmtree(root / tiny.DATA / "splits" / "validation")
    Dataset.from_list(swapped).save_to_disk(root / tiny.DATA / "splits" / "validation")
    made = with_looks(tiny.stage(**KINDS[kind]), select="best_validation", select_by="preference_margin")
    folder, outcome = trained(root, made, "selected")
    looks = [row for row in read_rows(folder / VALIDATION) if row["split"] == "validation"]
    assert max(looks[1:], key=lambda row: row["preference_margin"])["step"] == 3
    assert outcome.selected_step == 3
    # The same training, stopped there.
    _, stopped = trained(root, tiny.stage(**KINDS[kind], max_steps=3), "stopped")
    assert outcome.weights_hash == stopped.weights_hash
    assert outcome.final_probe == stopped.final_probe
    assert not (folder / BEST).exists()


def test_without_validation_pairs_the_best_cannot_be_chosen(root: Path) -> None:
    data = root / tiny.DATA / "data.json"
    content = json.loads(data.read_text())
    content["splits"]["validation"]["num_pairs"] = 0
    data.write_text(json.dumps(content))
    made = with_looks(tiny.stage("sft"), select="best_validation")
    with pytest.raises(PipelineError, match=r"training\.select.*needs validation pairs"):
        trained(root, made, "chosen")
    folder, _ = trained(root, with_looks(tiny.stage("sft")), "looked")
    assert {row["split"] for row in read_rows(folder / VALIDATION)} == {"train"}
