"""A whole comparison through the command line: everything is left behind, nothing runs twice, failures are contained."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.end_to_end.small import make_config, prefduel, records, started
from tests.stock_orpo import ORPO

REPOSITORY = Path(__file__).resolve().parents[2]


def summary(root: Path, name: str = "small") -> dict[str, Any]:
    return json.loads((root / "results" / name / "summary.json").read_text())


def test_every_stage_leaves_a_finished_record(done: Path) -> None:
    found = records(done)
    kinds = sorted(name.split("-")[0] for name in found)
    assert kinds == sorted(["data"] + ["sft", "dpo", "orpo"] * 2 + ["evaluate"] * 7)
    assert {record["status"] for record in found.values()} == {"done"}
    assert not list((done / "results/small").glob(".partial-*"))


def test_every_training_stage_was_forecast_before_it_ran(done: Path) -> None:
    folder = done / "results/small"
    forecast = json.loads((folder / "forecast.json").read_text())
    trained = {name for name in records(done) if name.split("-")[0] in ("sft", "dpo", "orpo")}
    assert {planned["id"] for planned in forecast["planned"]} == trained
    made = (folder / "forecast.json").stat().st_mtime
    assert all(made < (folder / name / "record.json").stat().st_mtime for name in trained)
    assert "measured / forecast" in (done / "reports/small.md").read_text()


def test_the_rule_is_declared_before_the_first_stage_and_stands_in_each_record(done: Path) -> None:
    (line,) = (done / "results/small/decisions.jsonl").read_text().splitlines()
    declared = json.loads(line)
    assert declared["num_measured"] == 0
    assert {record["decision_hash"] for record in records(done).values()} == {declared["decision_hash"]}
    assert summary(done)["rule"]["status"] == "declared"


def test_the_summary_follows_its_schema_and_has_arms_and_controls(done: Path) -> None:
    content = summary(done)
    jsonschema.validate(content, json.loads((REPOSITORY / "harness/summary.schema.json").read_text()))
    assert set(content["arms"]) == {"orpo", "sft-dpo"}
    assert set(content["controls"]) == {"base", "sft"}
    accuracy = content["arms"]["orpo"]["metrics"]["preference_accuracy"]
    assert len(accuracy["by_seed"]) == 2
    assert accuracy["mean"] == pytest.approx(sum(accuracy["by_seed"]) / 2)
    assert content["controls"]["base"]["metrics"]["preference_accuracy"]["by_seed"] == []


def test_an_arms_time_is_the_sum_of_its_stages_and_its_peak_their_maximum(done: Path) -> None:
    plan = json.loads((done / "results/small/comparison.json").read_text())
    found = records(done)
    seconds, peaks = [], []
    for trial in plan["trials"]:
        if trial["name"] == "sft-dpo":
            costs = [found[stage]["cost"] for stage in trial["training"]]
            assert len(costs) == 2
            seconds.append(sum(cost["train_seconds"] for cost in costs))
            peaks.append(max(cost["peak_memory_bytes"] for cost in costs))
    cost = summary(done)["arms"]["sft-dpo"]["cost"]
    assert cost["train_seconds"] == pytest.approx(sum(seconds) / len(seconds))
    assert cost["peak_memory_bytes"] == max(peaks)


def test_two_seeds_are_too_few_for_a_verdict_and_the_report_says_so(done: Path) -> None:
    assert summary(done)["verdict"]["outcome"] == "incomplete"
    assert (done / "reports/small.md").is_file()


def test_a_second_run_runs_nothing_and_gives_the_same_summary_and_report(done: Path) -> None:
    before = started(done), summary(done), (done / "reports/small.md").read_bytes()
    ran = prefduel("run", "small.yaml", cwd=done)
    assert ran.returncode == 0
    assert (started(done), summary(done), (done / "reports/small.md").read_bytes()) == before


def made_from(done: Path, stage_id: str) -> set[str]:
    """The stage and all that depends on it, by the inputs in the records."""
    found, before = {stage_id}, set[str]()
    while found != before:
        before = set(found)
        found |= {
            name for name, record in records(done).items() if found & set(record["stage"]["inputs"].values())
        }
    return found


def test_a_deleted_stage_is_remade_with_what_it_says_to_the_bit(done: Path) -> None:
    orpo = next(path for path in (done / "results/small").glob("orpo-*"))
    before = json.loads((orpo / "record.json").read_text())
    others, depending = started(done), made_from(done, orpo.name)
    means = {name: records(done)[name]["outcome"].get("means") for name in depending}
    losses = (orpo / "losses.jsonl").read_bytes()
    shutil.rmtree(orpo)
    assert prefduel("run", "small.yaml", cwd=done).returncode == 0
    after = json.loads((orpo / "record.json").read_text())
    assert after["outcome"] == before["outcome"]
    assert (orpo / "losses.jsonl").read_bytes() == losses
    assert {name: records(done)[name]["outcome"].get("means") for name in depending} == means
    assert {name for name, at in started(done).items() if at != others[name]} == depending


def test_a_record_without_its_weights_is_a_stage_to_run_again(done: Path) -> None:
    sft = next(path for path in (done / "results/small").glob("sft-*"))
    before, depending = started(done), made_from(done, sft.name)
    shutil.rmtree(sft / "model")
    assert prefduel("run", "small.yaml", cwd=done).returncode == 0
    assert (sft / "model").is_dir()
    assert {name for name, at in started(done).items() if at != before[name]} == depending


def test_another_comparison_of_the_same_results_folder_trains_nothing_twice(done: Path) -> None:
    config = (done / "small.yaml").read_text().replace("name: small", "name: other")
    (done / "other.yaml").write_text(config)
    ran = prefduel("run", "other.yaml", cwd=done)
    assert ran.returncode == 0, ran.stderr
    assert {name: record["started_at"] for name, record in records(done, "other").items()} == started(done)
    events = [
        json.loads(line)["event"] for line in (done / "results/other/events.jsonl").read_text().splitlines()
    ]
    assert events.count("stage_reused") == len(records(done))
    assert "stage_started" not in events
    assert summary(done, "other")["arms"] == summary(done)["arms"]


def test_the_report_alone_can_be_made_again_with_the_same_bytes(done: Path) -> None:
    before = (done / "reports/small.md").read_bytes()
    shutil.rmtree(done / "reports")
    ran = prefduel("report", "results/small", cwd=done)
    assert ran.returncode == 0, ran.stderr
    assert (done / "reports/small.md").read_bytes() == before


def test_nothing_in_report_or_records_names_this_machine(done: Path) -> None:
    host = os.uname().nodename
    text = (done / "reports/small.md").read_text()
    assert str(Path.home()) not in text
    assert str(done) not in text
    assert host not in text


def test_both_arms_were_given_the_same_data_and_seed(done: Path) -> None:
    stages = [record["stage"] for record in records(done).values()]
    trained = [stage for stage in stages if stage["settings"]["kind"] in ("sft", "dpo", "orpo")]
    assert len({stage["inputs"]["data"] for stage in trained}) == 1
    by_kind = {
        kind: {stage["seed"] for stage in trained if stage["settings"]["kind"] == kind}
        for kind in ("sft", "dpo", "orpo")
    }
    assert by_kind["sft"] == by_kind["dpo"] == by_kind["orpo"]
    assert len(by_kind["sft"]) == 2


def test_a_stage_that_fails_is_contained_and_the_exit_code_is_1(tmp_path: Path) -> None:
    # Each step multiplies the weights by 1 - learning_rate * weight_decay.
    huge = {"learning_rate": 0.9, "weight_decay": 1e30, "num_train_epochs": 3}
    path = make_config(
        tmp_path,
        seeds=1,
        allow_difference={"weight_decay": "to fail", "num_train_epochs": "to fail"},
        arms={
            "orpo": [{"trainer": "orpo", "implementation": ORPO, "arguments": huge}],
            "sft-dpo": [{"trainer": "sft", "arguments": {"num_train_epochs": 1}}, {"trainer": "dpo"}],
        },
    )
    ran = prefduel("run", path, cwd=tmp_path)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    status = {name.split("-")[0]: record["status"] for name, record in records(tmp_path).items()}
    assert status["orpo"] == "not_finite"
    assert status["dpo"] == "done"
    assert "not finite" in ran.stdout or "not_finite" in ran.stdout
    assert "orpo" in (tmp_path / "reports/small.md").read_text()
    assert summary(tmp_path)["verdict"]["outcome"] == "incomplete"


def test_a_second_run_in_the_same_folder_is_refused(done: Path) -> None:
    from filelock import FileLock

    with FileLock(done / "results/small/.lock"):
        ran = prefduel("run", "small.yaml", cwd=done)
    assert ran.returncode == 2
    assert "another run" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_a_sweep_runs_its_points_and_then_the_best_on_a_fresh_seed(tmp_path: Path) -> None:
    point = {"trainer": "orpo", "arguments": {"learning_rate": 0.01, "num_train_epochs": 1}}
    sweep = {"arms": {"orpo": {"points": [{"0.arguments.beta": 0.1}, {"0.arguments.beta": 1}]}}, "seeds": 1}
    data = {"path": str(tmp_path / "pairs.jsonl"), "validation_share": 0.3, "test_share": 0.2}
    make_config(tmp_path, arms={"orpo": [point]}, controls=[], seeds=1, sweep=sweep, data=data)
    ran = prefduel("run", "small.yaml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    plan = json.loads((tmp_path / "results/small/comparison.json").read_text())
    points = summary(tmp_path)["sweep"]["arms"]["orpo"]["points"]
    best = max(range(2), key=lambda number: points[number]["mean"])
    assert plan["chosen"] == {"orpo": best}
    stages = {stage["id"]: stage for stage in plan["stages"]}
    trained = {trial["name"]: stages[trial["training"][0]] for trial in plan["trials"]}
    assert trained["orpo"]["settings"]["arguments"]["beta"] == [0.1, 1][best]
    assert trained["orpo"]["seed"] not in {trained["orpo@0"]["seed"], trained["orpo@1"]["seed"]}
    assert "0 to do" in prefduel("plan", "small.yaml", cwd=tmp_path).stdout
