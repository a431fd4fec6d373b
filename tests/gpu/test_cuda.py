"""What only a CUDA device can show. `make gpu-check` runs these; without a device they are skipped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.launch import Launcher
from harness.machine import choose_device, machine
from harness.records import Missing, read_record, write_json
from harness.stage import STAGE
from pipelines.outcomes import TrainOutcome
from pipelines.stages import Stage
from pipelines.training.train import train
from tests.harness.launched import run_alone
from tests.pipelines.training import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(choose_device("auto") != "cuda", reason="no CUDA device that NVML shows"),
]


def run_on_cuda(root: Path, made: Stage, **changes: object) -> TrainOutcome:
    settings = made.settings.model_copy(update=changes)
    stage = made.model_copy(update={"device": "cuda", "settings": settings})
    folder = tiny.folder_of(root, stage)
    write_json(folder / STAGE, stage.model_dump(mode="json", by_alias=True))
    run_alone(Launcher("spawn", root), folder / STAGE)
    record = read_record(folder)
    assert record is not None
    assert record.status == "done", record.failure
    assert record.cost is not None
    assert record.cost.peak_memory_kind == "cuda_reserved"
    assert record.cost.peak_memory_bytes
    if isinstance(record.cost.peak_device_memory_bytes, Missing):
        pytest.fail(record.cost.peak_device_memory_bytes.reason)
    assert record.cost.peak_device_memory_bytes >= record.cost.peak_memory_bytes
    assert isinstance(record.cost.energy_joules, float), record.cost.energy_joules
    assert record.cost.energy_joules > 0
    assert isinstance(record.cost.contended, bool), record.cost.contended
    assert isinstance(record.outcome, TrainOutcome)
    return record.outcome


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_every_trainer_runs_and_is_metered_on_cuda(root: Path, kind: str, tuning: str, dtype: str) -> None:
    outcome = run_on_cuda(root, tiny.stage(kind, tuning=tuning), dtype=dtype)
    assert outcome.final_loss is not None
    assert math.isfinite(outcome.final_loss)


@pytest.mark.parametrize("reference", ["adapter", "precomputed"])
def test_dpo_on_cuda_starts_at_ln_2_after_sft(root: Path, reference: str) -> None:
    run_on_cuda(root, tiny.stage("sft", tuning="lora"))
    dpo = tiny.stage("dpo", tuning="lora", reference=reference, policy="sft-000000000000")
    assert run_on_cuda(root, dpo).first_loss == pytest.approx(math.log(2), abs=1e-4)


def test_qlora_loads_four_bit_weights(root: Path) -> None:
    pytest.importorskip("bitsandbytes")
    outcome = run_on_cuda(root, tiny.stage("sft", tuning="qlora"), dtype="bfloat16")
    assert outcome.num_trainable_parameters < outcome.num_parameters


def test_gradient_checkpointing_gives_the_same_first_loss(root: Path) -> None:
    plain = run_on_cuda(root, tiny.stage("orpo"))
    (root / "orpo-000000000000").rename(root / "plain")
    assert run_on_cuda(root, tiny.stage("orpo"), gradient_checkpointing=True).first_loss == pytest.approx(
        plain.first_loss, rel=1e-4
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_fused_orpo_on_cuda_has_the_loss_of_the_cpu(root: Path, tuning: str, dtype: str) -> None:
    stage = tiny.stage("orpo", tuning=tuning, implementation="fused", mean_over="step", nll="completion")
    on_cpu = train(stage, tiny.folder_of(root, stage, "cpu"), tiny.Silent()).first_loss
    outcome = run_on_cuda(root, stage, dtype=dtype)
    assert outcome.first_loss == pytest.approx(on_cpu, rel=1e-4 if dtype == "float32" else 2e-2)
    assert outcome.final_loss is not None
    assert math.isfinite(outcome.final_loss)


def test_the_machine_names_its_device_through_nvml() -> None:
    found = machine()
    assert found.accelerator
    assert found.accelerator_memory_bytes
    assert found.driver
