"""The same effective batch gives the same gradient, and it is the gradient of the mean that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipelines.training import formulas, tiny
from tests.pipelines.training.formulas import relative_difference
from tests.pipelines.training.still import BETA, Received, make_trainer, rows_in_order, run, still
from tests.stock_orpo import needs_stock_orpo

NUM_PAIRS = 7  # an optimizer step of 4 and a last one of 3
TOLERANCE = 1e-5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path, rows=tiny.pairs(NUM_PAIRS))
    return tmp_path


def expected_loss(
    kind: str, model: torch.nn.Module, rows: list[dict[str, Any]], reference: torch.nn.Module | None, nll: str
) -> torch.Tensor:
    if kind == "sft":
        return formulas.nll_token_mean(model, rows, nll)
    if kind == "dpo":
        assert reference is not None
        return formulas.dpo(model, rows, reference=reference, beta=BETA)
    return formulas.orpo(model, rows, nll=nll, beta=BETA)


@pytest.mark.parametrize(
    ("kind", "tuning", "nll"),
    [
        ("sft", "full", "completion"),
        ("dpo", "full", "completion"),
        ("dpo", "lora", "completion"),
        ("orpo", "full", "prompt_and_completion"),
        ("orpo", "lora", "completion"),
    ],
)
def test_the_gradient_of_a_step_is_that_of_the_mean_over_its_pairs_and_tokens(
    root: Path, kind: str, tuning: str, nll: str
) -> None:
    mean_over = None if kind == "sft" else "step"
    for micro_batch in (4, 2, 1) if tuning == "full" else (4, 1):
        stage = still(kind, micro_batch=micro_batch, tuning=tuning, nll=nll, mean_over=mean_over)
        found, seen, trainer = run(root, stage, f"{micro_batch}")
        model = formulas.in_float64(trainer.model)
        reference = None if kind != "dpo" else formulas.in_float64(trainer.ref_model)
        rows = rows_in_order(seen, tiny.pairs(NUM_PAIRS))
        for step, group in enumerate((rows[:4], rows[4:])):
            expected = formulas.gradients(model, expected_loss(kind, model, group, reference, nll))
            assert relative_difference(found[step], expected) < TOLERANCE, f"{micro_batch} a micro-batch"


@pytest.mark.parametrize("kind", ["dpo", pytest.param("orpo", marks=needs_stock_orpo)])
def test_stock_trainers_weigh_by_micro_batch_which_is_why_the_mean_is_repaired(root: Path, kind: str) -> None:
    """If this fails, TRL averages over the step by itself: `step_mean.py` can go."""
    whole, _, _ = run(root, still(kind, micro_batch=4, mean_over="micro_batch"), "whole")
    cut, _, _ = run(root, still(kind, micro_batch=2, mean_over="micro_batch"), "cut")
    assert relative_difference(cut[1], {name: value.double() for name, value in whole[1].items()}) > 0.05


def test_the_logged_loss_is_the_mean_over_the_step(root: Path) -> None:
    logged = {}
    for micro_batch in (4, 1):
        trainer = run(root, still("orpo", micro_batch=micro_batch, mean_over="step"), f"{micro_batch}")[2]
        logged[micro_batch] = [
            row[name] for row in trainer.state.log_history if "loss" in row for name in ("loss", "nll_loss")
        ]
    assert logged[1] == pytest.approx(logged[4], rel=1e-5)


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_pairs_reach_every_trainers_model_in_one_order_and_in_the_same_batches(
    root: Path, micro_batch: int
) -> None:
    orders = {}
    for kind in ("sft", "dpo", "orpo"):
        stage = still(kind, micro_batch=micro_batch, epochs=2, mean_over=None if kind == "sft" else "step")
        # A stray seed in one trainer's process must not matter.
        trainer = make_trainer(root, stage, kind)
        torch.manual_seed(len(kind))
        seen = Received(trainer.model)
        trainer.train()
        pairs = [found if kind == "sft" else found[: len(found) // 2] for found in seen.passes]
        orders[kind] = pairs
    assert orders["sft"] == orders["dpo"] == orders["orpo"]
    flat = [ids for found in orders["sft"] for ids in found]
    assert len(flat) == 2 * NUM_PAIRS
    first, second = flat[:NUM_PAIRS], flat[NUM_PAIRS:]
    assert sorted(first) == sorted(second)
    assert first != second
