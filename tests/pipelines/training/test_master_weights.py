"""bfloat16 with float32 weights behind it, and without; and the share of weights that a stage changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines.models import load_base
from pipelines.outcomes import TrainOutcome
from pipelines.stages import Stage
from pipelines.training.changes import ChangedWeights
from pipelines.training.train import train
from tests.pipelines.training import tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def run(root: Path, kind: str, name: str | None = None, **settings: Any) -> tuple[Stage, TrainOutcome]:
    stage = tiny.stage(
        kind,
        dtype="bfloat16",
        **({"mean_over": "step"} if kind != "sft" else {}),
        **{"learning_rate": 1e-4, "num_train_epochs": 2} | settings,
    )
    return stage, train(stage, tiny.folder_of(root, stage, name), tiny.Silent())


@pytest.mark.parametrize(
    ("kind", "implementation"),
    [("sft", tiny.ORPO), ("dpo", tiny.ORPO), ("orpo", tiny.ORPO), ("orpo", "fused")],
)
def test_small_updates_reach_float32_weights_and_are_lost_on_bfloat16_ones(
    root: Path, kind: str, implementation: str
) -> None:
    found = {}
    for master_weights, saved_as in (("fp32", torch.float32), ("none", torch.bfloat16)):
        _, outcome = run(
            root, kind, master_weights, master_weights=master_weights, implementation=implementation, learning_rate=1e-5
        )  # fmt: skip
        saved = load_file(root / master_weights / "model" / "model.safetensors")
        assert {value.dtype for value in saved.values()} == {saved_as}
        found[master_weights] = outcome.changed_weights_share
        assert outcome.first_loss is not None
        if kind == "dpo":
            assert outcome.first_loss == pytest.approx(math.log(2), abs=1e-3)
    assert found["fp32"] is not None
    assert found["none"] is not None
    assert found["fp32"] > 0.5  # not all: rows of tokens that no pair has keep still
    assert found["none"] < 0.2


def test_both_compute_in_bfloat16(root: Path) -> None:
    losses = {
        name: run(root, "sft", f"{name}", master_weights=name)[1].first_loss for name in ("fp32", "none")
    }
    plain = train(
        tiny.stage("sft"), tiny.folder_of(root, tiny.stage("sft"), "plain"), tiny.Silent()
    ).first_loss
    assert losses["fp32"] == pytest.approx(losses["none"], rel=0.02)
    assert losses["fp32"] == pytest.approx(plain, rel=0.02)
    assert losses["fp32"] != plain


def test_a_stage_after_another_starts_from_its_float32_weights(root: Path) -> None:
    sft, _ = run(root, "sft", master_weights="fp32")
    dpo, outcome = run(
        root, "dpo", master_weights="fp32", policy=sft.id, learning_rate=1e-12, num_train_epochs=1
    )
    before, after = (load_file(root / one.id / "model" / "model.safetensors") for one in (sft, dpo))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-9)
    assert any((value.bfloat16().float() != value).any() for value in before.values())
    assert outcome.first_loss == pytest.approx(math.log(2), abs=1e-3)


def test_adapters_are_float32_whatever_the_base_is(root: Path) -> None:
    stage, outcome = run(root, "sft", tuning="lora", learning_rate=1e-6)
    saved = load_file(root / stage.id / "model" / "adapter_model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert outcome.changed_weights_share is not None
    assert outcome.changed_weights_share > 0.5


def test_the_share_counts_trained_weights_that_differ_from_the_start(root: Path) -> None:
    stage = tiny.stage("sft", learning_rate=1e-2)
    outcome = train(stage, tiny.folder_of(root, stage), tiny.Silent())
    start = load_base(stage, root / stage.id)
    end = load_file(root / stage.id / "model" / "model.safetensors")
    pairs = [(value, end[name]) for name, value in start.named_parameters() if name in end]
    changed = sum(int((one != other).sum()) for one, other in pairs)
    assert outcome.changed_weights_share == pytest.approx(changed / sum(one.numel() for one, _ in pairs))


def test_a_sample_of_a_large_model_tells_its_share() -> None:
    layer = torch.nn.Linear(512, 400)
    changes = ChangedWeights(layer, max_sampled=20_000)
    with torch.no_grad():
        layer.weight[:, ::4] += 1  # whole columns, a quarter of the weights
    assert changes.share() == pytest.approx(0.25, abs=0.01)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert ChangedWeights(layer).share() is None
