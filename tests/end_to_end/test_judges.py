"""Judges through the command line: added to a finished comparison they judge what is stored, and only that."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.small import make_config, prefduel

JUDGE = """\
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"item": row["item"], "score": len(row["reply"])}))
"""


def records(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/record.json")}


@pytest.mark.slow
def test_judges_that_are_added_later_train_and_generate_nothing(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    evaluations: dict[str, Any] = {
        "preference": None,
        "generation": {"max_new_tokens": 6, "judges": ["gold"]},
    }
    more = {"seeds": 1, "evaluations": evaluations, "decision": {"metric": "gold_score"}}
    toy = {"data": {"path": "toy", "num_pairs": 60, "test_share": 0.3, "validation_share": 0.1}}
    make_config(tmp_path, **more, **toy)
    assert prefduel("run", "small.yaml", "--quiet", cwd=tmp_path).returncode == 0
    results = tmp_path / "results" / "small"
    before = {path: path.read_bytes() for path in results.glob("*/record.json")}
    evaluations["judges"] = [
        {"name": "gold", "kind": "gold"},
        {"name": "long", "kind": "command", "command": [sys.executable, "judge.py"]},
        {"name": "rm", "kind": "reward_model", "model": "toy"},
        {"name": "broken", "kind": "command", "command": [sys.executable, "-c", "raise SystemExit(3)"]},
    ]
    make_config(tmp_path, **more, **toy)
    done = prefduel("run", "small.yaml", "--quiet", cwd=tmp_path)
    assert done.returncode == 1  # the broken judge's stages are failures; everything else is there
    assert {path: path.read_bytes() for path in before} == before
    added = [
        record for path, record in records(results).items() if results / path / "record.json" not in before
    ]
    assert {record["stage"]["settings"]["kind"] for record in added} == {"judge", "reward"}
    failed = [record for record in added if record["status"] != "done"]
    assert {record["stage"]["settings"]["judge"]["name"] for record in failed} == {"broken"}
    assert "its command ended with exit code 3" in failed[0]["failure"]["message"]
    assert all(record["cost"]["total_seconds"] > 0 for record in added if record["status"] == "done")
    summary = json.loads((results / "summary.json").read_text())
    assert {one["judge"] for one in summary["win_rates"]} == {"gold", "long", "rm"}
    assert {row["category"] for one in summary["win_rates"] for row in one["categories"]} >= {"billing"}
    assert "Win rates" in (tmp_path / "reports" / "small.md").read_text()
