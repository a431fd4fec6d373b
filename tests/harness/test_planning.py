"""Planning: shared stages once, arms interleaved, seeds far apart, identity by content."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from harness import sources
from harness.config import Comparison
from harness.evaluation.loaded import model_of
from harness.plan import Plan
from harness.planning import make_plan, trial_seed


def comparison(tmp_path: Path, **changes: Any) -> Comparison:
    data = tmp_path / "pairs.jsonl"
    if not data.exists():
        data.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    content: dict[str, Any] = {
        "schema": 1,
        "name": "x",
        "model": {"name": "toy"},
        "data": {"path": str(data)},
        "arms": {
            "orpo": [{"trainer": "orpo"}],
            "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo", "arguments": {"beta": 0.1}}],
        },
        "device": "cpu",
        "threads": 1,
    }
    return Comparison.model_validate(content | changes)


def kinds(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for stage in plan.stages:
        found[stage.kind] = found.get(stage.kind, 0) + 1
    return found


def test_the_sft_control_is_the_first_stage_of_sft_dpo_and_is_trained_once(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path))
    assert kinds(plan) == {"pretrain": 1, "data": 1, "sft": 3, "dpo": 3, "orpo": 3, "evaluate": 10}
    trials = {(trial.name, trial.seed): trial for trial in plan.trials}
    assert trials["sft", 1].training == trials["sft-dpo", 1].training[:1]


@pytest.mark.parametrize("controls", [["base", "sft"], ["sft"], []])
def test_all_groups_of_a_model_follow_each_other_so_that_it_is_loaded_once(
    tmp_path: Path, controls: list[str]
) -> None:
    groups = {"generation": {}, "benchmarks": {"tasks": ["arc_easy"]}, "drift": {}}
    plan = make_plan(comparison(tmp_path, controls=controls, evaluations=groups))
    held = [(model_of(stage), stage.id) for stage in plan.stages if stage.kind == "evaluate"]
    # A model is left for good once another one's turn has come; only the base may be scored alone, first.
    turns = [model for model, _ in itertools.groupby(held, key=lambda one: one[0])]
    assert len(turns) == len(set(turns)) == 1 + 3 * (2 + ("sft" in controls))
    for trial in plan.trials:
        places = sorted([stage_id for _, stage_id in held].index(stage_id) for stage_id in trial.evaluations)
        assert places == list(range(places[0], places[0] + len(trial.evaluations)))


def test_a_preset_says_how_orpo_and_dpo_average_and_what_orpo_covers(tmp_path: Path) -> None:
    stock, mixed = (
        {"trainer": "orpo", "preset": "stock"},
        {"trainer": "orpo", "preset": "stock", "nll": "completion"},
    )
    arms = {
        "fair": [{"trainer": "orpo", "nll_weight": 0}],
        "stock": [stock],
        "mixed": [mixed],
        "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}],
        "sft-dpo-stock": [{"trainer": "sft"}, {"trainer": "dpo", "preset": "stock"}],
    }
    plan = make_plan(comparison(tmp_path, arms=arms, seeds=1))
    settings = {stage.id: stage.settings for stage in plan.stages}
    found = {
        trial.name: [settings[name] for name in trial.training] for trial in plan.trials if trial.training
    }
    told = {
        name: [(one.kind, one.nll, one.nll_weight, one.mean_over) for one in stages]
        for name, stages in found.items()
    }
    assert told == {
        "fair": [("orpo", "completion", 0, "step")],
        "stock": [("orpo", "prompt_and_completion", 1, "micro_batch")],
        "mixed": [("orpo", "completion", 1, "micro_batch")],
        "sft": [("sft", "completion", None, None)],
        "sft-dpo": [("sft", "completion", None, None), ("dpo", "completion", None, "step")],
        "sft-dpo-stock": [("sft", "completion", None, None), ("dpo", "completion", None, "micro_batch")],
    }
    assert kinds(plan)["sft"] == 1  # what a preset does not change is shared


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"dtype": "bfloat16"}, "fp32"),
        ({"dtype": "bfloat16", "master_weights": "none"}, "none"),
        ({"dtype": "bfloat16", "tuning": "lora"}, None),
        ({"dtype": "float32"}, None),
    ],
)
def test_only_bfloat16_in_full_has_a_choice_of_master_weights(
    tmp_path: Path, training: dict[str, str], expected: str | None
) -> None:
    plan = make_plan(comparison(tmp_path, training=training))
    trained = [stage.settings for stage in plan.stages if stage.kind in ("sft", "dpo", "orpo")]
    assert {settings.master_weights for settings in trained} == {expected}


def test_one_sft_model_serves_every_dpo_point(tmp_path: Path) -> None:
    arms = {
        f"dpo-{beta}": [{"trainer": "sft"}, {"trainer": "dpo", "arguments": {"beta": beta}}]
        for beta in (0.1, 0.2, 0.3)
    }
    plan = make_plan(comparison(tmp_path, arms=arms))
    assert kinds(plan)["sft"] == 3
    assert kinds(plan)["dpo"] == 9


def test_reference_log_probs_are_computed_once_for_each_sft_model_and_read_by_every_dpo_point(
    tmp_path: Path,
) -> None:
    def arm(**arguments: float) -> list[dict[str, Any]]:
        return [{"trainer": "sft"}, {"trainer": "dpo", "reference": "precomputed", "arguments": arguments}]

    arms = {f"beta-{beta}": arm(beta=beta) for beta in (0.1, 0.2, 0.3)} | {"ld": arm(ld_alpha=0.5)}
    plan = make_plan(comparison(tmp_path, arms=arms))
    assert kinds(plan)["reference"] == 3 * 2  # ld_alpha weighs the tokens of the log-probs
    stages = {stage.id: stage for stage in plan.stages}
    for trial in plan.trials:
        if trial.role == "arm":
            sft, dpo = trial.training
            (reference,) = trial.references
            assert stages[dpo].inputs.reference == reference
            assert stages[reference].inputs.policy == stages[dpo].inputs.policy == sft
            assert stages[reference].inputs.data == stages[dpo].inputs.data


def test_dpo_on_the_base_model_needs_its_log_probs_once_for_all_seeds(tmp_path: Path) -> None:
    arms = {"dpo": [{"trainer": "dpo", "reference": "precomputed"}]}
    found = kinds(make_plan(comparison(tmp_path, arms=arms, controls=["base"])))
    assert (found["reference"], found["dpo"]) == (1, 3)


def test_inputs_come_before_what_needs_them(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path))
    seen: set[str] = set()
    for stage in plan.stages:
        assert {name for name in stage.inputs.model_dump().values() if name} <= seen
        seen.add(stage.id)


def test_arms_are_interleaved_a_b_b_a_across_seeds(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path))
    order = [(trial.name, trial.seed) for trial in plan.trials if trial.role == "arm"]
    assert order == [
        ("orpo", 0), ("sft-dpo", 0), ("sft-dpo", 1), ("orpo", 1), ("orpo", 2), ("sft-dpo", 2),
    ]  # fmt: skip


def test_planning_twice_gives_the_same_plan(tmp_path: Path) -> None:
    assert make_plan(comparison(tmp_path)) == make_plan(comparison(tmp_path))


def test_a_base_for_each_seed_makes_a_base_control_for_each_seed(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path, base_per_seed=True))
    assert kinds(plan)["pretrain"] == 3
    assert [trial.seed for trial in plan.trials if trial.name == "base"] == [0, 1, 2]


def test_seeds_are_far_apart() -> None:
    seeds = sorted(trial_seed(number) for number in range(200))
    assert min(second - first for first, second in itertools.pairwise(seeds)) > 100


def ids(plan: Plan, kind: str) -> set[str]:
    return {stage.id for stage in plan.stages if stage.kind == kind}


@pytest.mark.parametrize(
    ("changes", "moved", "kept"),
    [
        ({"name": "other"}, set(), {"pretrain", "data", "sft", "dpo", "orpo", "evaluate"}),
        ({"decision": {"margin": 0.5}}, set(), {"pretrain", "data", "sft", "dpo", "orpo", "evaluate"}),
        ({"price_per_hour": 3.0}, set(), {"pretrain", "data", "sft", "dpo", "orpo", "evaluate"}),
        ({"training": {"max_length": 512}}, {"data", "sft", "dpo", "orpo", "evaluate"}, {"pretrain"}),
        ({"training": {"effective_batch": 8}}, {"sft", "dpo", "orpo"}, {"pretrain", "data"}),
        (
            {"evaluations": {"preference": {"split": "validation"}}},
            {"evaluate"},
            {"sft", "dpo", "orpo", "data"},
        ),
        ({"threads": 2}, {"pretrain", "sft", "dpo", "orpo"}, set()),
    ],
)
def test_only_settings_that_can_change_an_outcome_move_its_id(
    tmp_path: Path, changes: dict[str, Any], moved: set[str], kept: set[str]
) -> None:
    before, after = make_plan(comparison(tmp_path)), make_plan(comparison(tmp_path, **changes))
    for kind in moved:
        assert not ids(before, kind) & ids(after, kind), kind
    for kind in kept:
        assert ids(before, kind) == ids(after, kind), kind


def test_other_bytes_in_the_data_file_move_everything_that_rests_on_it(tmp_path: Path) -> None:
    before = make_plan(comparison(tmp_path))
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "d"}) + "\n")
    after = make_plan(comparison(tmp_path))
    assert not ids(before, "data") & ids(after, "data")
    assert not ids(before, "orpo") & ids(after, "orpo")
    assert ids(before, "pretrain") == ids(after, "pretrain")


def test_the_same_bytes_under_another_name_keep_the_ids(tmp_path: Path) -> None:
    before = make_plan(comparison(tmp_path))
    (tmp_path / "pairs.jsonl").rename(tmp_path / "renamed.jsonl")
    after = make_plan(comparison(tmp_path, data={"path": str(tmp_path / "renamed.jsonl")}))
    assert ids(before, "orpo") == ids(after, "orpo")


def test_code_counts_but_comments_and_docstrings_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pipelines"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text('"""One."""\nfrom pipelines.second import x\n')
    (package / "second.py").write_text("x = 1\n")
    monkeypatch.setattr(sources, "ROOT", tmp_path)

    def digest() -> dict[str, str]:
        for cached in (
            sources.code_hashes,
            sources._imports,
            sources._normalised,
            sources._tree,
            sources._path,
        ):
            cached.cache_clear()
        return sources.code_hashes("pipelines.first")

    before = digest()
    (package / "second.py").write_text('"""Two."""\n# a comment\nx = 1\n')
    assert digest() == before
    (package / "second.py").write_text("x = 2\n")
    after = digest()
    assert {module for module in before if before[module] != after[module]} == {"pipelines.second"}
    monkeypatch.undo()
    for cached in (sources.code_hashes, sources._imports, sources._normalised, sources._tree, sources._path):
        cached.cache_clear()


def test_every_model_is_compared_with_the_base_models_own_evaluation_which_is_run_once(
    tmp_path: Path,
) -> None:
    for controls in (["base", "sft"], []):
        plan = make_plan(comparison(tmp_path, controls=controls))
        stages = {stage.id: stage for stage in plan.stages}
        of_base = {
            stage.id for stage in plan.stages if stage.kind == "evaluate" and stage.inputs.policy is None
        }
        assert len(of_base) == 1
        for trial in plan.trials:
            inputs = stages[trial.evaluations[0]].inputs
            assert inputs.base_evaluation == (next(iter(of_base)) if trial.training else None)
            assert inputs.base_evaluation is None or inputs.base_evaluation in trial.preparation
        places = {stage.id: place for place, stage in enumerate(plan.stages)}
        assert all(places[next(iter(of_base))] < places[t.evaluations[0]] for t in plan.trials if t.training)


def test_a_base_of_its_own_for_each_seed_is_what_that_seeds_models_are_compared_with(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path, base_per_seed=True))
    stages = {stage.id: stage for stage in plan.stages}
    for trial in plan.trials:
        evaluation = stages[trial.evaluations[0]]
        if evaluation.inputs.base_evaluation:
            assert stages[evaluation.inputs.base_evaluation].inputs.base == evaluation.inputs.base


def test_drift_is_measured_on_trained_models_only(tmp_path: Path) -> None:
    plan = make_plan(comparison(tmp_path, evaluations={"preference": None, "drift": {}}))
    assert {bool(trial.training): len(trial.evaluations) for trial in plan.trials} == {False: 0, True: 1}
