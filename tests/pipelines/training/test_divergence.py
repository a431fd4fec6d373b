"""The declared rule on losses: it meets trainings that left for good, and leaves alone whatever only looks wild."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import Diverged
from pipelines.stages import Limits
from pipelines.training.divergence import WINDOW, has_diverged
from pipelines.training.train import train
from tests.pipelines.training import tiny

REPOSITORY = Path(__file__).resolve().parents[3]
FACTOR = 2.0


def fires(losses: list[float]) -> bool:
    return any(has_diverged(losses[:step], FACTOR) for step in range(1, len(losses) + 1))


def healthy(seed: int, *, batch: int, start: float) -> list[float]:
    """600 steps whose mean falls by a third; pairs differ by a factor of two, as NLLs of replies do."""
    draw = random.Random(seed)
    return [
        start * (1 - step / 1800) * sum(draw.lognormvariate(0, 0.6) for _ in range(batch)) / batch
        for step in range(600)
    ]


def contradicting() -> list[dict[str, Any]]:
    """Pairs that no model can follow, each with its opposite: otherwise DPO learns twelve by heart at any rate."""
    rows = tiny.pairs()
    opposite = [
        row | {"uid": f"{row['uid']}x", "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}
        for row in rows
    ]
    return rows + opposite


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo"])
def test_a_learning_rate_that_is_far_too_high_ends_the_training_within_two_windows(
    tmp_path: Path, kind: str
) -> None:
    tiny.make_inputs(tmp_path, rows=contradicting())
    stage = tiny.stage(kind, learning_rate=3.0, num_train_epochs=15)
    stage = stage.model_copy(update={"limits": Limits(divergence_factor=FACTOR)})
    folder = tiny.folder_of(tmp_path, stage)
    with pytest.raises(Diverged, match=r"loss is \S+ at step (2\d|3\d|40) of 90: it began at"):
        train(stage, folder, tiny.Silent())
    losses = [json.loads(line)["loss"] for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("start", [math.log(2), 2.5])
def test_noisy_trainings_that_learn_are_left_alone(batch: int, start: float) -> None:
    assert not any(fires(healthy(seed, batch=batch, start=start)) for seed in range(40))


def test_no_training_behind_a_committed_report_is_called_diverged() -> None:
    curves = [
        [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        for path in (REPOSITORY / "results").glob("*/*/losses.jsonl")
    ]
    assert len(curves) > 10
    assert not any(fires(losses) for losses in curves)


def test_a_spike_is_no_divergence_and_a_plateau_far_above_the_start_is() -> None:
    learns = [2.0] * 30
    assert not fires(learns + [50.0] * 10 + learns)
    assert fires(learns + [7.0] * WINDOW)
    assert not fires(learns + [4.9] * WINDOW)  # more than twice as much, but less than 3 nats above


def test_a_memorised_loss_that_wobbles_near_zero_is_no_divergence() -> None:
    assert not fires([2.0] * 5 + [0.001] * 30 + [0.5] * 30)


def test_a_start_below_zero_has_a_limit_above_it() -> None:
    assert not fires([-1.0] + [1.5] * 50)
    assert fires([-1.0] + [2.5] * 50)
