"""Reference log-probs computed once: the SFT policy's, of every pair, and the same DPO as with a model in memory."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from datasets import load_from_disk

from pipelines.data.prepared import read_split
from pipelines.errors import PipelineError
from pipelines.models import load_base, load_policy
from pipelines.outcomes import ReferenceOutcome
from pipelines.stages import Stage
from pipelines.training.evidence import STORED
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


@pytest.mark.parametrize("ld_alpha", [None, 0.5, 1.0])
def test_what_dpo_notes_of_its_reference_are_the_sums_of_the_sft_policy_however_they_are_weighted(
    root: Path, ld_alpha: float | None
) -> None:
    policy = tiny.stage("sft")
    of_policy = train(policy, tiny.folder_of(root, policy), tiny.Silent())
    more = {} if ld_alpha is None else {"ld_alpha": ld_alpha}
    stage = tiny.reference_stage(policy.id, **more)
    assert compute(root, stage).probe == pytest.approx(of_policy.final_probe, abs=1e-4)
    dpo = tiny.stage("dpo", reference="precomputed", policy=policy.id, stored=stage.id, **more)
    outcome = train(dpo, tiny.folder_of(root, dpo), tiny.Silent())
    assert outcome.reference_probe == pytest.approx(of_policy.final_probe, abs=1e-3)


def test_log_probs_of_a_policy_that_was_trained_again_to_other_weights_are_refused(root: Path) -> None:
    policy = sft(root, "full")
    stage = tiny.reference_stage(policy.id)
    compute(root, stage)
    shutil.rmtree(root / policy.id)
    train(policy.model_copy(update={"seed": 5}), tiny.folder_of(root, policy), tiny.Silent())
    dpo = tiny.stage("dpo", reference="precomputed", policy=policy.id, stored=stage.id, num_train_epochs=1)
    with pytest.raises(PipelineError, match="log-probs are of other weights") as error:
        train(dpo, tiny.folder_of(root, dpo), tiny.Silent())
    assert "\n" not in str(error.value)
    # Of log-probs that were stored before their stage noted its weights nothing is known.
    (root / stage.id / STORED).unlink()
    train(dpo, tiny.folder_of(root, dpo, "old"), tiny.Silent())


def test_log_probs_stay_on_disk_beside_their_pairs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.training.reference.WRITTEN_AT_ONCE", 5)  # of 12
    stage = tiny.reference_stage(None)
    outcome = compute(root, stage)
    pairs = with_reference(
        read_split(root / tiny.DATA, "train"), root / stage.id, started_from=outcome.weights_hash
    )
    assert {Path(file["filename"]).parent.name for file in pairs.cache_files} == {"train", LOGPS}
    assert {path.name for path in (root / stage.id).iterdir()} - {"checkpoints"} == {LOGPS, STORED}
    stored = load_from_disk(root / stage.id / LOGPS)
    assert pairs["uid"] == stored["uid"] == [row["uid"] for row in tiny.pairs()]
    assert pairs["ref_rejected_logps"] == stored["ref_rejected_logps"]


def test_log_probs_of_other_pairs_or_in_another_order_are_refused_by_name(root: Path) -> None:
    stage = tiny.reference_stage(None)
    started_from = compute(root, stage).weights_hash
    pairs = read_split(root / tiny.DATA, "train")
    other = pairs.remove_columns("uid").add_column("uid", ["unknown", *pairs["uid"][1:]])
    for wrong, named in (
        (other, "unknown"),
        (pairs.select(range(11)), "0011"),
        (pairs.select([1, 0]), "0001"),
    ):
        with pytest.raises(PipelineError, match=f"no log-probs of pair '{named}' in its place"):
            with_reference(wrong, root / stage.id, started_from=started_from)
