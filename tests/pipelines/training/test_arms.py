"""Any list of stages is an arm: each goes on from the model that the one before it left, with LoRA and in full."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.models import load_policy
from pipelines.training.train import train
from tests.pipelines.training import formulas, tiny
from tests.stock_orpo import needs_stock_orpo

BETA = 0.3


def run(root: Path, stage):
    return train(stage, tiny.folder_of(root, stage), tiny.Silent())


@pytest.mark.parametrize("nll_weight", [1.0, 0.0])
@pytest.mark.parametrize(
    ("tuning", "implementation"),
    [("full", "fused"), ("lora", "fused"), pytest.param("lora", "trl", marks=needs_stock_orpo)],
)
def test_orpo_after_sft_starts_from_the_sft_model(
    tmp_path: Path, tuning: str, implementation: str, nll_weight: float
) -> None:
    tiny.make_inputs(tmp_path)
    sft = tiny.stage("sft", tuning=tuning)
    run(tmp_path, sft)
    orpo = tiny.stage(
        "orpo", tuning=tuning, implementation=implementation, policy=sft.id, nll="completion", nll_weight=nll_weight,
        mean_over="step", micro_batch=12, effective_batch=12, num_train_epochs=2, beta=BETA,
    )  # fmt: skip
    outcome = run(tmp_path, orpo)
    start = formulas.in_float64(load_policy(orpo, tmp_path / orpo.id))
    with torch.no_grad():
        expected = formulas.orpo(start, tiny.pairs(), nll="completion", beta=BETA, nll_weight=nll_weight)
    assert outcome.first_loss == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.final_loss is not None
    assert outcome.final_loss < outcome.first_loss


def test_with_lora_the_second_stage_trains_the_first_ones_adapter(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    sft = tiny.stage("sft", tuning="lora")
    run(tmp_path, sft)
    orpo = tiny.stage("orpo", tuning="lora", implementation="fused", policy=sft.id, learning_rate=1e-7)
    run(tmp_path, orpo)
    before, after = (
        load_file(tmp_path / one.id / "model" / "adapter_model.safetensors") for one in (sft, orpo)
    )
    assert before.keys() == after.keys()
    assert not (tmp_path / orpo.id / "model" / "model.safetensors").exists()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-5)  # moved a little, and not made anew
    assert any(not torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(("tuning", "reference"), [("full", "copy"), ("lora", "adapter"), ("lora", "copy")])
def test_dpo_alone_starts_from_the_base_and_has_it_as_reference(
    tmp_path: Path, tuning: str, reference: str
) -> None:
    tiny.make_inputs(tmp_path)
    dpo = tiny.stage("dpo", tuning=tuning, reference=reference, mean_over="step", num_train_epochs=2)
    outcome = run(tmp_path, dpo)
    assert outcome.first_loss == pytest.approx(math.log(2), abs=1e-6)
    assert outcome.final_loss is not None
    assert outcome.final_loss < outcome.first_loss
    assert outcome.num_reference_tokens == outcome.num_policy_tokens
