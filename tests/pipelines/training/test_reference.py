"""Reference log-probs computed once: the SFT policy's, of every pair, and the same DPO as with a model in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from datasets import load_from_disk

from pipelines.data.prepared import read_split
from pipelines.errors import PipelineError
from pipelines.models import load_base, load_policy
from pipelines.outcomes import ReferenceOutcome
from pipelines.stages import Stage
from pipelines.training.reference import LOGPS, compute_reference, with_reference
from pipelines.training.train import train
from tests.pipelines.training import tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def sft(root: Path, tuning: str) -> Stage:
    stage = tiny.stage("sft", tuning=tuning)
    train(stage, tiny.folder_of(root, stage), tiny.Silent())
    return stage


def compute(root: Path, stage: Stage) -> ReferenceOutcome:
    return compute_reference(stage, tiny.folder_of(root, stage), tiny.Silent())


def losses(root: Path, stage: Stage, name: str) -> list[float]:
    train(stage, tiny.folder_of(root, stage, name), tiny.Silent())
    lines = (root / name / "losses.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_stored_log_probs_are_the_sft_policys_and_not_the_bases(root: Path, tuning: str) -> None:
    policy = sft(root, tuning)
    stage = tiny.reference_stage(policy.id, tuning=tuning)
    outcome = compute(root, stage)
    rows = tiny.pairs()
    both = [row[f"{side}_ids"] for row in rows for side in ("chosen", "rejected")]
    assert outcome.num_pairs == len(rows)
    assert outcome.num_reference_tokens == sum(map(len, both)) + 2 * sum(len(r["prompt_ids"]) for r in rows)
    model, base = load_policy(stage, root / stage.id), load_base(stage, root / stage.id)
    for stored, row in zip(load_from_disk(root / stage.id / LOGPS), rows, strict=True):
        assert stored["uid"] == row["uid"]
        for side in ("chosen", "rejected"):
            ids = row["prompt_ids"], row[f"{side}_ids"]
            expected = float(tiny.completion_logprobs(model, *ids).sum())
            assert stored[f"ref_{side}_logps"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            assert abs(stored[f"ref_{side}_logps"] - float(tiny.completion_logprobs(base, *ids).sum())) > 1e-3


@pytest.mark.parametrize(
    ("tuning", "others"), [("full", ("copy",)), ("lora", ("copy", "adapter"))], ids=["full", "lora"]
)
def test_a_stored_reference_trains_the_policy_that_one_in_memory_trains(
    root: Path, tuning: str, others: tuple[str, ...]
) -> None:
    policy = sft(root, tuning)
    stage = tiny.reference_stage(policy.id, tuning=tuning)
    compute(root, stage)
    stored = tiny.stage("dpo", tuning=tuning, reference="precomputed", policy=policy.id, stored=stage.id)
    curve = losses(root, stored, "precomputed")
    assert curve[0] == pytest.approx(math.log(2), abs=1e-6)
    for reference in others:
        dpo = tiny.stage("dpo", tuning=tuning, reference=reference, policy=policy.id)
        assert losses(root, dpo, reference) == pytest.approx(curve, abs=1e-5)


def test_a_stage_with_stored_log_probs_runs_no_reference_model(root: Path) -> None:
    policy = sft(root, "full")
    stage = tiny.reference_stage(policy.id)
    compute(root, stage)
    dpo = tiny.stage("dpo", reference="precomputed", policy=policy.id, stored=stage.id, num_train_epochs=1)
    outcome = train(dpo, tiny.folder_of(root, dpo), tiny.Silent())
    assert outcome.num_reference_tokens == 0


def test_length_desensitised_dpo_gets_log_probs_with_the_same_weights(root: Path) -> None:
    policy = sft(root, "full")
    stage = tiny.reference_stage(policy.id, ld_alpha=0.5)
    compute(root, stage)
    stored = tiny.stage("dpo", reference="precomputed", policy=policy.id, stored=stage.id, ld_alpha=0.5)
    copied = tiny.stage("dpo", reference="copy", policy=policy.id, ld_alpha=0.5)
    assert losses(root, stored, "stored") == pytest.approx(losses(root, copied, "copied"), abs=1e-5)


def test_log_probs_are_matched_by_pair_and_a_missing_pair_is_named(root: Path) -> None:
    stage = tiny.reference_stage(None)
    compute(root, stage)
    pairs = read_split(root / tiny.DATA, "train")
    whole = with_reference(pairs, root / stage.id)
    some = with_reference(pairs.select([7, 2]), root / stage.id)
    assert some["ref_chosen_logps"] == [whole["ref_chosen_logps"][number] for number in (7, 2)]
    other = pairs.select([0]).remove_columns("uid").add_column("uid", ["unknown"])
    with pytest.raises(PipelineError, match="no log-probs of pair 'unknown'"):
        with_reference(other, root / stage.id)
