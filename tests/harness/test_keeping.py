"""Weights that are not kept go once nothing reads them; what was made from them stays done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.integrity import GIVEN_UP, standing
from harness.keeping import DYING, give_up, give_up_weights
from harness.plan import Plan, read_plan
from harness.records import CHECKPOINTS, ITEMS, RECORD
from harness.reuse import work_left
from tests.harness.fixtures_results import Run, add_products, make_results

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


def test_the_best_is_best_over_prompts_as_in_the_verdict(tmp_path: Path) -> None:
    """By the mean over items, which the record has, another arm is ahead."""
    plan, folder = finished(tmp_path, "best")
    for trial in plan.trials:
        for stage_id in trial.evaluations if trial.role == "arm" else ():
            path = folder / stage_id / ITEMS
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            if "gold_score" in rows[0]:
                many, few = (1.0, 0.0) if trial.name == "sft-dpo" else (0.0, 1.0)
                scores = [many if place < 50 else few for place in range(len(rows))]
                prompts = [
                    "asked often" if place < 50 else f"asked once {place}" for place in range(len(rows))
                ]
                told = zip(rows, scores, prompts, strict=True)
                lines = [
                    json.dumps(row | {"gold_score": score, "prompt": prompt}) for row, score, prompt in told
                ]
                path.write_text("\n".join(lines) + "\n")
                record = json.loads((folder / stage_id / RECORD).read_text())
                record["outcome"]["means"]["gold_score"] = sum(scores) / len(scores)
                (folder / stage_id / RECORD).write_text(json.dumps(record))
    give_up_weights(plan, folder)
    assert kept(plan, folder) == ["orpo"]


@pytest.mark.parametrize("metric", ["win_rate_pairs", "win_rate_gold", "score_gold"])
def test_the_best_on_a_judges_metric_is_found_among_its_judgements(tmp_path: Path, metric: str) -> None:
    judges = (
        {"name": "gold", "kind": "gold"},
        {"name": "pairs", "kind": "command", "command": ["true"], "mode": "compare"},
    )
    decision = {"metric": metric, "margin": 0.02}
    run = Run(seeds=2, levels=LEVELS, judges=judges, decision=decision, changes={"keep_weights": "best"})
    folder = make_results(tmp_path, run)
    add_products(folder)
    plan = read_plan(folder)
    give_up_weights(plan, folder)
    assert len([kind for kind in kept(plan, folder) if kind in ("orpo", "dpo")]) == 1


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


def test_weights_that_a_stage_has_to_read_again_are_not_given_up_before(tmp_path: Path) -> None:
    """An evaluation is added: SFT is made again for DPO, whose record is there and whose weights were given up."""
    plan, folder = finished(tmp_path, "none")
    give_up_weights(plan, folder)
    [trial] = [trial for trial in plan.trials if (trial.name, trial.seed) == ("sft-dpo", 0)]
    sft, dpo = trial.training
    shutil.rmtree(folder / trial.evaluations[0])
    assert {sft, dpo} <= {stage.id for stage in work_left(plan, folder).todo}
    (folder / sft / "model").mkdir()  # it has run again
    (folder / sft / GIVEN_UP).unlink()
    give_up_weights(plan, folder)
    assert standing(folder / sft) == "whole"
    (folder / dpo / "model").mkdir()
    (folder / dpo / GIVEN_UP).unlink()
    give_up_weights(plan, folder)
    assert [standing(folder / stage_id) for stage_id in (sft, dpo)] == ["light", "whole"]
