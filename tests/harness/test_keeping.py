"""Weights that are not kept go once nothing reads them; what was made from them stays done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.integrity import standing
from harness.keeping import DYING, give_up, give_up_weights
from harness.plan import Plan, read_plan
from harness.records import CHECKPOINTS
from harness.reuse import work_left
from tests.harness.fixtures_results import Run, make_results

LEVELS = {"base": 0.4, "sft": 0.6, "orpo": 0.7, "sft-dpo": 0.9}


def finished(parent: Path, keep: str, **changes: object) -> tuple[Plan, Path]:
    """A comparison that is done, weights and all."""
    folder = make_results(parent, Run(seeds=2, levels=LEVELS, changes={"keep_weights": keep, **changes}))
    plan = read_plan(folder)
    for stage in plan.stages:
        for product in ("model", "splits", "tokenizer"):
            if (product == "model") == (stage.kind not in ("data", "evaluate")):
                (folder / stage.id / product).mkdir()
    return plan, folder


def kept(plan: Plan, folder: Path) -> list[str]:
    """Labels of the stages that still have weights."""
    return [stage.kind for stage in plan.stages if (folder / stage.id / "model").is_dir()]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("all", {"pretrain": 1, "orpo": 2, "sft": 2, "dpo": 2}),
        ("final", {"orpo": 2, "dpo": 2}),
        ("best", {"dpo": 1}),
        ("none", {}),
    ],
)
def test_each_choice_keeps_what_it_says_and_nothing_runs_again(
    tmp_path: Path, keep: str, expected: dict[str, int]
) -> None:
    plan, folder = finished(tmp_path, keep)
    give_up_weights(plan, folder)
    found = kept(plan, folder)
    assert {kind: found.count(kind) for kind in found} == expected
    assert not work_left(plan, folder).todo


def test_where_lower_is_better_the_best_is_the_lowest(tmp_path: Path) -> None:
    decision = {"metric": "chosen_nll", "margin": 0.1}  # 2 - score in these made-up results
    plan, folder = finished(tmp_path, "best", decision=decision)
    give_up_weights(plan, folder)
    assert kept(plan, folder) == ["dpo"]


def test_an_adapter_keeps_its_base(tmp_path: Path) -> None:
    plan, folder = finished(
        tmp_path, "final", training={"tuning": "lora", "effective_batch": 8, "micro_batch": 8}
    )
    give_up_weights(plan, folder)
    assert "pretrain" in kept(plan, folder)


def test_weights_stay_while_a_stage_that_reads_them_is_not_done(tmp_path: Path) -> None:
    plan, folder = finished(tmp_path, "none")
    trial = next(trial for trial in plan.trials if trial.name == "sft-dpo")
    shutil.rmtree(folder / trial.training[-1])
    give_up_weights(plan, folder)
    assert sorted(kept(plan, folder)) == ["pretrain", "sft"]
    assert standing(folder / trial.training[0]) == "whole"


def test_until_all_are_measured_every_final_model_may_be_the_best(tmp_path: Path) -> None:
    plan, folder = finished(tmp_path, "best")
    trial = next(trial for trial in plan.trials if trial.name == "orpo")
    for evaluation in trial.evaluations:
        shutil.rmtree(folder / evaluation)
    give_up_weights(plan, folder)
    assert [kind for kind in kept(plan, folder) if kind != "pretrain"] == ["orpo", "dpo", "dpo", "orpo"]


def test_a_removal_that_was_killed_half_way_leaves_nothing_that_looks_like_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = finished(tmp_path, "none")
    stage = folder / next(stage.id for stage in plan.stages if stage.kind == "sft")
    (stage / "model" / "model.safetensors").write_bytes(b"1")

    def killed(path: Path, **_: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("harness.keeping.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        give_up(stage, because="a test")
    monkeypatch.undo()
    assert standing(stage) == "light"
    assert (stage / DYING).is_dir()
    assert not (stage / CHECKPOINTS).exists()
