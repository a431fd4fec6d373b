"""The toy world's reward model: trained on its training pairs alone, it ranks replies to other prompts as gold does."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from harness.evaluation.judges.interface import Reply
from harness.evaluation.judges.reward_model import RewardModel
from pipelines.judge_settings import RewardModelJudge
from pipelines.outcomes import DataOutcome, RewardOutcome, SplitCount
from pipelines.stages import RewardSettings, Stage, StageInputs
from pipelines.toy.gold import score
from pipelines.toy.reward_model import train_reward_model
from pipelines.toy.tickets import make_pairs
from tests.pipelines.training.silent import Silent

DATA = "data-000000000000"
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 240, 60, 300
PAIRS = make_pairs(NUM_TRAIN + NUM_VALIDATION + NUM_TEST, seed=992)  # of no comparison


def make_inputs(root: Path) -> None:
    """The folder of the data stage, as far as the training reads it."""
    splits = {"train": PAIRS[:NUM_TRAIN], "validation": PAIRS[NUM_TRAIN : NUM_TRAIN + NUM_VALIDATION]}
    for name, pairs in splits.items():
        rows = [{f"{side}_text": pair[side] for side in ("prompt", "chosen", "rejected")} for pair in pairs]
        Dataset.from_list(rows).save_to_disk(root / DATA / "splits" / name)
    counts = {
        name: SplitCount(
            num_pairs=len(pairs), num_prompt_tokens=0, num_chosen_tokens=0, num_rejected_tokens=0
        )
        for name, pairs in splits.items()
    }
    outcome = DataOutcome(
        form="prompt",
        num_rows=len(PAIRS),
        dropped=[],
        splits=counts,  # type: ignore[arg-type]
        content_hash="0",
        chat_template_source="tokenizer",
        adds_bos=True,
        end_of_turn_ids=[1],
        pad_token_id=0,
    )
    (root / DATA / "data.json").write_text(outcome.model_dump_json())


def trained(root: Path, name: str) -> RewardOutcome:
    stage = Stage(
        id="reward-000000000000",
        settings=RewardSettings(kind="reward"),
        inputs=StageInputs(data=DATA),
        seed=0,
        threads=1,
        device="cpu",
    )
    (root / name).mkdir()
    return train_reward_model(stage, root / name, Silent())


def test_it_ranks_replies_to_prompts_that_it_never_saw_as_gold_does(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    outcome = trained(tmp_path, "reward-000000000000")
    assert outcome.num_pairs == NUM_TRAIN
    settings = RewardModelJudge.model_validate({"name": "rm", "kind": "reward_model", "model": "toy"})
    judge = RewardModel(settings, tmp_path / "reward-000000000000" / "model", "cpu", lambda *_: None)
    pairs = PAIRS[-NUM_TEST:]
    sides = [
        judge.score([Reply(str(n), pair["prompt"], pair[side]) for n, pair in enumerate(pairs)])
        for side in ("chosen", "rejected")
    ]
    agree = [
        (chosen > rejected) == (gold > 0)
        for chosen, rejected, pair in zip(*sides, pairs, strict=True)
        if (
            gold := score(pair["prompt"], pair["chosen"]).total
            - score(pair["prompt"], pair["rejected"]).total
        )
    ]
    print(f"agrees with gold on {sum(agree) / len(agree):.3f} of {len(agree)} pairs")  # noqa: T201
    # By chance 0.5, standard error 0.03.
    assert sum(agree) / len(agree) > 0.7
    assert outcome.validation_accuracy == pytest.approx(0.85, abs=0.15)
