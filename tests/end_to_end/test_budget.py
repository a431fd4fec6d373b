"""A budget that is known only when the data are prepared, with SFT on data of its own: from the config to a fair audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.small import make_config, prefduel

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
