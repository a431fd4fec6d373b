"""Tokens and operations a second, and their share of a data sheet's peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.forecast.devices import peak_flops_of
from harness.records import Cost, Missing, Record, read_record, write_record
from harness.report.write import write_report
from harness.summary import summarise
from harness.throughput import operations, peak_share, tokens_per_second
from pipelines.outcomes import TensorBytes, TrainOutcome, Work
from tests.harness.fixtures_results import Run, make_results


@pytest.fixture
def record(tmp_path: Path) -> Record:
    found = read_record(next(make_results(tmp_path).glob("orpo-*")))
    assert found is not None
    return found


def changed(record: Record, *, seconds: float, work: Work | None, card: str | None = None) -> Record:
    assert isinstance(record.outcome, TrainOutcome)
    assert isinstance(record.cost, Cost)
    stage = record.stage.model_copy(update={"device": "cpu" if card is None else "cuda"})
    return record.model_copy(
        update={
            "stage": stage,
            "machine": record.machine.model_copy(update={"accelerator": card}),
            "outcome": record.outcome.model_copy(update={"work": work, "num_policy_tokens": 6_000}),
            "cost": record.cost.model_copy(update={"train_seconds": seconds}),
        }
    )


def test_throughput_times_seconds_is_the_tokens(record: Record) -> None:
    stages = [changed(record, seconds=seconds, work=None) for seconds in (2.0, 4.0)]
    found = tokens_per_second(stages)
    assert found is not None
    assert found * 6.0 == pytest.approx(12_000)
    assert tokens_per_second([]) is None


def test_the_share_is_of_what_the_card_could_have_done_in_the_same_seconds(record: Record) -> None:
    card = "NVIDIA H100 80GB HBM3"
    dtype = record.stage.settings.dtype  # type: ignore[union-attr]
    peak = {"bfloat16": 989e12, "float32": 67e12}[dtype]
    first = changed(record, seconds=10.0, work=Work(operations=4 * peak), card=card)
    second = changed(record, seconds=10.0, work=Work(operations=2 * peak), card=card)
    assert operations([first, second]) == pytest.approx(6 * peak)
    assert peak_share([first, second]) == pytest.approx(6 / 20)


@pytest.mark.parametrize(
    ("work", "card", "reason"),
    [
        (Work(operations=1.0), None, "no data sheet"),
        (Work(operations=1.0), "NVIDIA RTX PRO 9000", "is not in this version's table"),
        (Work(operations=None, reason="experts"), "NVIDIA H100 80GB HBM3", "experts"),
    ],
)
def test_a_share_that_cannot_be_had_has_a_reason(
    record: Record, work: Work, card: str | None, reason: str
) -> None:
    found = peak_share([changed(record, seconds=1.0, work=work, card=card)])
    assert isinstance(found, Missing)
    assert reason in found.reason


def test_a_version_that_counted_no_operations_gives_none(record: Record) -> None:
    assert operations([record]) is None
    assert peak_share([record]) is None


@pytest.mark.parametrize(
    ("name", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        # Other cards of nearly the same name have other peaks.
        ("NVIDIA L40", None),
        ("NVIDIA A10", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
    ],
)
def test_only_a_card_of_the_table_has_a_peak(name: str, bfloat16: float | None) -> None:
    assert peak_flops_of(name, "bfloat16") == bfloat16


def test_a_bill_has_energy_alone_and_shared_and_money_too(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(changes={"price_per_hour": 3.6}))
    joules = {"sft": 100.0, "dpo": 300.0, "orpo": 500.0}
    for path in folder.glob("*-*/record.json"):
        record = read_record(path.parent)
        assert record is not None
        used: Any = joules.get(record.stage.kind, Missing(reason="not trained"))
        assert record.cost is not None
        write_record(
            path.parent,
            record.model_copy(update={"cost": record.cost.model_copy(update={"energy_joules": used})}),
        )
    summary = summarise(folder)
    cost = summary.arms["sft-dpo"].cost
    assert (cost.energy_joules, cost.shared_energy_joules) == (400.0, 350.0)  # SFT serves two models
    assert (summary.arms["orpo"].cost.energy_joules, summary.arms["orpo"].cost.shared_energy_joules) == (
        500.0,
        500.0,
    )
    assert cost.shared_seconds is not None
    assert cost.shared_money == pytest.approx(cost.shared_seconds / 1000)
    ratio = next(each for each in summary.cost_ratios if each.quantity == "energy_joules")
    assert ratio.ratio == pytest.approx(500 / 400)


def test_the_bill_shows_both_totals_and_memory_by_part_and_no_empty_column(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    for path in folder.glob("orpo-*/record.json"):
        record = read_record(path.parent)
        assert record is not None
        made = changed(record, seconds=6.0, work=Work(operations=3e12))
        assert isinstance(made.outcome, TrainOutcome)
        assert made.cost is not None
        held = TensorBytes(weights=2**20, adapter=0, reference=0, gradients=2**20, optimizer=3 * 2**20)
        cost = {"warm_up_seconds": 1.5, "waiting_seconds": 0.25, "activations_bytes": 7 * 2**20}
        write_record(
            path.parent,
            made.model_copy(
                update={
                    "cost": made.cost.model_copy(update=cost),
                    "outcome": made.outcome.model_copy(update={"tensor_bytes": held}),
                }
            ),
        )
    page = " ".join(write_report(folder, tmp_path / "reports").read_text().split())
    assert "| arm | stage | train s | without warm-up | waiting s | tokens/s | TFLOP | " in page
    assert "| orpo | 1. orpo | 6.00 | 4.50 | 0.250 | 1,000 | 3.00 |" in page
    assert "energy kJ" not in page
    assert "| orpo | 1. orpo | 1.00 MiB | 0 MiB | 0 MiB | 1.00 MiB | 3.00 MiB | 7.00 MiB |" in page
    assert "share of the device's peak: no data sheet gives the peak of this processor" in page
