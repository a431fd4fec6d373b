"""A comparison whose prompts become equal when they are cut is fair, or stops before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.toy.tickets import make_pairs
from tests.end_to_end.small import make_config, prefduel, records

WHY = "same tokens as a test pair"


def config_with_alike(root: Path, **data: Any) -> None:
    """To the pairs of `small`, ten that have one long ending and one pair of replies."""
    source = root / "pairs.jsonl"
    make_config(
        root, seeds=1, data={"path": str(source), "test_share": 0.3, "truncation": "keep_end", **data}
    )
    ending = " ".join(row["prompt"] for row in make_pairs(9, seed=2))
    replies = {"chosen": "we are sorry .", "rejected": "no ."}
    alike = [{"prompt": f"{row['prompt']} {ending}", **replies} for row in make_pairs(10, seed=3)]
    with source.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in alike)


def test_prompts_that_become_equal_when_cut_are_left_out_and_the_comparison_is_fair(tmp_path: Path) -> None:
    config_with_alike(tmp_path, max_dropped=0.2)
    done = prefduel("run", "small.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (data,) = (record for name, record in records(tmp_path).items() if name.startswith("data-"))
    assert [(group["reason"], group["num_rows"] > 0) for group in data["outcome"]["dropped"]] == [(WHY, True)]
    audit = json.loads(prefduel("audit", "results/small", "--json", cwd=tmp_path).stdout)
    assert audit["verdict"] == "fair"
    assert WHY in (tmp_path / "reports" / "small.md").read_text()


def test_too_many_of_them_stop_the_run_before_any_training(tmp_path: Path) -> None:
    config_with_alike(tmp_path, max_dropped=0.01)
    done = prefduel("run", "small.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert WHY in done.stdout + done.stderr
    assert not any(name.startswith(("sft-", "dpo-", "orpo-")) for name in records(tmp_path))
