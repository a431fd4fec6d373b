"""A budget that is known only when the data are prepared, with SFT on data of its own: from the config to a fair audit."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from tests.end_to_end.small import make_config, prefduel, records

pytestmark = pytest.mark.slow


def test_arms_of_one_and_two_stages_get_the_same_tokens_and_no_stage_runs_twice(tmp_path: Path) -> None:
    arguments = {"learning_rate": 0.01, "num_train_epochs": 4}
    config = make_config(
        tmp_path,
        budget={"match": "tokens"},
        sft={"data": {"path": "chats.jsonl"}},
        allow_difference={"sft.data": "as published"},
        training={"effective_batch": 1, "micro_batch": 1, "max_length": 128, "arguments": arguments},
        arms={
            "orpo": [{"trainer": "orpo", "implementation": "fused"}],
            "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}],
        },
        seeds=1,
    )
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    chats = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    planned = prefduel("plan", config, cwd=tmp_path).stdout
    assert "not yet known: orpo's steps: budget.match: tokens" in planned
    run = prefduel("run", config, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    checks = json.loads(prefduel("audit", "results/small", "--json", cwd=tmp_path).stdout)
    found = {check["id"]: check["status"] for check in checks["checks"]}
    assert (checks["verdict"], found["budget_matched"], found["declared_differences"]) == (
        "fair",
        "pass",
        "warning",
    )
    report = (tmp_path / "reports/small.md").read_text()
    assert "SFT trained on 22 replies" in report  # 40, less the 18 whose prompts are held out
    assert "tokens (matched)" in report
    again = prefduel("plan", config, cwd=tmp_path).stdout
    assert " 0 to do" in again.splitlines()[0]


def test_arms_get_the_same_seconds_by_a_calibration_that_is_kept_and_a_noisy_clock_is_no_unfairness(
    tmp_path: Path,
) -> None:
    arguments = {"learning_rate": 0.01, "num_train_epochs": 8}
    config = make_config(
        tmp_path,
        budget={"match": "seconds", "calibration_steps": 20},
        training={"effective_batch": 1, "micro_batch": 1, "max_length": 128, "arguments": arguments},
        arms={
            "orpo": [{"trainer": "orpo", "implementation": "fused"}],
            "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}],
        },
        seeds=1,
    )
    assert (
        "not yet known: orpo's steps: budget.match: seconds" in prefduel("plan", config, cwd=tmp_path).stdout
    )
    run = prefduel("run", config, cwd=tmp_path)
    busy = (
        "run again on a machine to itself" in run.stdout
    )  # other work stretched some seconds: the audit says so
    assert run.returncode == int(busy), run.stdout + run.stderr
    found = records(tmp_path)
    times = {
        record["stage"]["settings"]["stage"]["kind"]: record["outcome"]
        for name, record in found.items()
        if name.startswith("calibrate-")
    }
    spent = {
        record["stage"]["settings"]["kind"]: record["outcome"]["num_steps"]
        * median(times[record["stage"]["settings"]["kind"]]["step_seconds"])
        + times[record["stage"]["settings"]["kind"]]["start_seconds"]
        for record in found.values()
        if record["outcome"]["kind"] == "train"
    }
    assert spent["sft"] + spent["dpo"] == pytest.approx(spent["orpo"], rel=0.01)
    assert busy or checked(tmp_path)["status"] in (
        "pass",
        "warning",
    )  # as noisy as this machine's clock is now
    assert "by the steps that were taken" in checked(tmp_path)["evidence"]
    orpo = next(name for name in found if name.startswith("orpo-"))
    record = found[orpo]
    record["outcome"]["num_steps"] += 30
    (tmp_path / "results/small" / orpo / "record.json").write_text(json.dumps(record))
    assert checked(tmp_path)["status"] == "fail"


def checked(root: Path) -> dict[str, str]:
    """What the audit says of the budget."""
    found = json.loads(prefduel("audit", "results/small", "--json", cwd=root).stdout)
    return next(check for check in found["checks"] if check["id"] == "budget_matched")
