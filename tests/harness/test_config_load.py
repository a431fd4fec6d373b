"""Loading a config: overrides, files found, numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.load_config import chosen_arms, load_comparison
from tests.harness.configs import VALID, write


def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path: Path) -> None:
    text = VALID.replace("beta: 0.1", "beta: 1e-2, warmup_steps: .5, adam_epsilon: 1.0E-8")
    text += "allow_difference: {warmup_steps: to be read, adam_epsilon: to be read}\n"
    arguments = load_comparison(write(tmp_path, text)).arms["orpo"][0].arguments
    assert arguments == {"learning_rate": 0.001, "beta": 0.01, "warmup_steps": 0.5, "adam_epsilon": 1e-8}


@pytest.mark.parametrize("word", ["no", "on", "1:30", "2024-01-01", "010"])
def test_words_that_yaml_1_1_would_turn_into_something_else_stay_text(tmp_path: Path, word: str) -> None:
    text = VALID.replace("beta: 0.1", f"run_name: {word}")
    assert load_comparison(write(tmp_path, text)).arms["orpo"][0].arguments["run_name"] == word


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    text = VALID.replace("arguments: {learning_rate", "arguments: &shared {learning_rate").replace(
        "      reference: copy", "      arguments: {<<: *shared, beta: 0.5}"
    )
    arms = load_comparison(write(tmp_path, text)).arms
    assert arms["sft-dpo"][1].arguments == {"learning_rate": 0.001, "beta": 0.5}


def test_overrides_reach_lists_missing_mappings_and_names_with_dots(tmp_path: Path) -> None:
    path = write(tmp_path, VALID.replace("  orpo:\n", "  orpo-0.1:\n"))
    comparison = load_comparison(
        path,
        overrides=[
            "arms.orpo-0.1.0.arguments.beta=0.2",
            "decision.margin=1e-2",
            "decision.compare=[orpo-0.1, sft-dpo]",
            "controls=[base]",
        ],
        seeds=5,
    )
    assert comparison.arms["orpo-0.1"][0].arguments["beta"] == 0.2
    assert comparison.decision.margin == 0.01
    assert comparison.decision.compare == ("orpo-0.1", "sft-dpo")
    assert comparison.controls == ["base"]
    assert comparison.seeds == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds", "must be key.path=value"),
        ("=3", "must be key.path=value"),
        ("seeds.x=3", "seeds is not|which has no key|must be a whole number"),
        ("arms.orpo.5.trainer=sft", "a position from 0 to 0, got '5'"),
        ("arms.orpo.first.trainer=sft", "a position from 0 to 0, got 'first'"),
        ("sedes=3", "sedes is not a key of the config. Did you mean seeds"),
        ("name=[", "not YAML"),
        ("decision.margin=.inf", "finite"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_comparison(write(tmp_path), overrides=[override])


def test_files_are_found_beside_the_config_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "pairs.jsonl").touch()
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "other.jsonl").touch()
    text = VALID.replace("{path: toy, num_pairs: 100}", "{path: pairs.jsonl}").replace("judges: [gold]", "")
    path = write(configs, text)
    monkeypatch.chdir(tmp_path)
    for given in (path, Path("configs/config.yaml")):
        assert load_comparison(given).data.path == "configs/pairs.jsonl"
        assert load_comparison(given, overrides=["data.path=other.jsonl"]).data.path == "other.jsonl"
        assert load_comparison(given, overrides=["data.path=absent.jsonl"]).data.path == "absent.jsonl"


def test_a_local_benchmark_is_known_by_the_name_inside_its_file(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("task: quiz\n")
    text = VALID + "  benchmarks: {tasks: [task.yaml]}\ndecision: {metric: benchmark_quiz}\n"
    assert load_comparison(write(tmp_path, text)).decision.metric == "benchmark_quiz"
    with pytest.raises(UserError, match="Did you mean benchmark_quiz"):
        load_comparison(write(tmp_path, text.replace("benchmark_quiz", "benchmark_quizz")))


def test_chosen_arms_keep_the_configs_order_and_must_exist(tmp_path: Path) -> None:
    comparison = load_comparison(write(tmp_path))
    assert chosen_arms(comparison, []) is None
    assert chosen_arms(comparison, ["sft-dpo", "orpo"]) == ["orpo", "sft-dpo"]
    with pytest.raises(UserError, match="Did you mean orpo"):
        chosen_arms(comparison, ["orpa"])


def test_a_single_arm_needs_no_decision(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "schema: 1\nname: one\nmodel: {name: toy}\ndata: {path: toy}\narms: {mine: [{trainer: dpo}]}\ncontrols: [base]\n"
    )
    assert list(load_comparison(path).arms) == ["mine"]


def test_a_change_of_what_an_alias_names_changes_one_place_only(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    path.write_text(
        "schema: 1\nname: alias\nmodel: {name: toy}\ndata: {path: toy}\narms:\n"
        "  orpo: [{trainer: orpo, arguments: &a {learning_rate: 1e-3}}]\n"
        "  sft-dpo: [{trainer: sft, arguments: *a}, {trainer: dpo, arguments: *a}]\n"
    )
    loaded = load_comparison(path, overrides=["arms.orpo.0.arguments.learning_rate=0.5"])
    rates = [stage.arguments["learning_rate"] for stages in loaded.arms.values() for stage in stages]
    assert rates == [0.5, 1e-3, 1e-3]


def test_the_number_of_seeds_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--seeds: .* and so does --set seeds\. Leave one of them out"):
        load_comparison(write(tmp_path), overrides=["seeds=4"], seeds=5)
