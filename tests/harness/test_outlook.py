"""`plan` and `run --dry-run`: every distinct stage once, done or to do, without torch."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from harness.cli import main
from harness.outlook import look_ahead, outlook_lines
from harness.plan import read_plan
from tests.harness.configs import VALID, write
from tests.harness.fixtures_results import Run, make_results


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict:
    assert main(["plan", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_sweep_of_12_dpo_and_12_orpo_points_trains_3_sft_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = [(beta, rate) for beta in (0.05, 0.1, 0.2, 0.5) for rate in (1e-6, 5e-6, 1e-5)]
    content = yaml.safe_load(VALID)
    content["arms"] = {
        f"orpo-{number}": [{"trainer": "orpo", "arguments": {"beta": beta, "learning_rate": rate}}]
        for number, (beta, rate) in enumerate(rates)
    } | {
        f"dpo-{number}": [
            {"trainer": "sft"},
            {"trainer": "dpo", "arguments": {"beta": beta, "learning_rate": rate}},
        ]
        for number, (beta, rate) in enumerate(rates)
    }
    content["decision"] = {"compare": ["orpo-0", "dpo-0"]}
    path = write(tmp_path, yaml.safe_dump(content))
    found = as_json(capsys, path, "--results", tmp_path, "--seeds", "3")
    kinds = Counter(stage["kind"] for stage in found["stages"])
    assert kinds == {
        "pretrain": 1, "data": 1, "sft": 3, "dpo": 36, "orpo": 36,
        "evaluate": 2 * (1 + 3 + 36 + 36),
    }  # fmt: skip
    assert len({stage["id"] for stage in found["stages"]}) == len(found["stages"])
    assert len(found["trials"]) == 1 + 3 * (24 + 1)
    assert {stage["state"] for stage in found["stages"]} == {"todo"}
    sft = [stage for stage in found["stages"] if stage["kind"] == "sft"]
    assert [stage["seed"] for stage in sft] == [0, 1, 2]
    assert {stage["arm"] for stage in sft} == {None}  # twelve arms share each
    assert {stage["arm"] for stage in found["stages"] if stage["kind"] == "dpo"} == {
        f"dpo-{number}" for number in range(12)
    }


def test_what_is_done_and_what_failed_is_told_apart(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(failed={("orpo", 1): ("not_finite", "loss is nan")}))
    plan = read_plan(folder)
    for stage in plan.stages:
        for product in ("model", "splits", "tokenizer"):
            (folder / stage.id / product).mkdir(parents=True, exist_ok=True)
    sft = next(stage for stage in plan.stages if stage.kind == "sft")
    shutil.rmtree(folder / sft.id)
    outlook = look_ahead(plan, folder)
    left = Counter(stage.kind for stage in outlook.stages if stage.state == "todo")
    assert left == {"sft": 1, "dpo": 1, "orpo": 1, "evaluate": 9}  # three of each of these models
    lines = list(outlook_lines("made-up", outlook))
    assert "12 to do" in lines[0]


@pytest.mark.usefixtures("has_every_trainer")
def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise RuntimeError("the machine has no memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.forecast.before_run.make_forecast", nobody)
    path = write(tmp_path)
    assert main(["plan", str(path)]) == 0
    planned = capsys.readouterr().out
    assert planned.endswith("no forecast: the machine has no memory\n")
    assert main(["run", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == planned
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_plan_over_data_that_is_not_there_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path, VALID.replace("{path: toy, num_pairs: 100}", "{path: gone.jsonl}").replace("[gold]", "[]")
    )
    assert main(["plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert "gone.jsonl" in error
    assert len(error.strip().splitlines()) == 1
