"""The gate fails for an arm that got worse, dearer, or cannot be seen; and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.cli import main
from harness.gate import Finding, findings
from harness.records import RECORD
from harness.results import read_results
from tests.harness.fixtures_results import LEVELS, Run, make_results


def against(here: Path, baseline: Path, **options: float) -> dict[str, Finding]:
    """Findings by `arm metric` or `arm cost`."""
    found = findings(read_results(here), read_results(baseline), **options)
    return {" ".join(finding.text.replace(":", "").split()[:2]): finding for finding in found}


def made(parent: Path, name: str, run: Run) -> Path:
    return make_results(parent / name, run)


def with_level(**levels: float) -> Run:
    return Run(
        seeds=5, num_items=200, levels={**LEVELS, **{k.replace("_", "-"): v for k, v in levels.items()}}
    )


def change_items(folder: Path, arm: str, shift: float, *, sd: float) -> list[float]:
    """Shift the gold scores of an arm, each seed by its own amount; returns the amounts in the order of the seeds."""
    results = read_results(folder)
    trials = sorted((t for t in results.plan.trials if t.name == arm), key=lambda t: t.seed or 0)
    random = np.random.default_rng(3)
    amounts = []
    for trial in trials:
        amount = float(shift + random.normal(0, sd))
        amounts.append(amount)
        for stage in trial.evaluations:
            path = folder / stage / "items.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            if "gold_score" not in rows[0]:
                continue
            for row in rows:
                row["gold_score"] += amount
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            record = json.loads((folder / stage / RECORD).read_text())
            record["outcome"]["means"]["gold_score"] = sum(r["gold_score"] for r in rows) / len(rows)
            (folder / stage / RECORD).write_text(json.dumps(record))
    return amounts


@pytest.mark.parametrize(
    ("shift", "fails"), [(-0.06, True), (-0.012, False), (0.06, False), (0.0, False)],
    ids=["worse", "worse, but within the margin", "better", "the same"],
)  # fmt: skip
def test_an_arm_fails_when_it_is_worse_by_more_than_the_margin(
    tmp_path: Path, shift: float, fails: bool
) -> None:
    baseline = made(tmp_path, "a", with_level())
    here = made(tmp_path, "b", with_level())
    change_items(here, "orpo", shift, sd=0.004)
    found = against(here, baseline)
    assert found["orpo gold_score"].fails is fails
    assert not found["sft-dpo gold_score"].fails


def test_a_drop_that_varies_too_much_between_seeds_to_be_shown_does_not_fail(tmp_path: Path) -> None:
    baseline = made(tmp_path, "a", with_level())
    here = made(tmp_path, "b", with_level())
    amounts = change_items(here, "orpo", -0.03, sd=0.08)
    # Five common seeds are paired; every item moves alike, so Student's interval of the amounts is the whole of it.
    mean, error = float(np.mean(amounts)), float(stats.sem(amounts))
    high = mean + float(stats.t.isf(0.025, 4)) * error
    assert mean < -0.02 < high
    finding = against(here, baseline)["orpo gold_score"]
    assert not finding.fails
    assert f"{mean - (high - mean):+.2f} to {high:+.2f}" in finding.text


def test_a_drop_that_is_the_same_in_every_seed_fails(tmp_path: Path) -> None:
    baseline = made(tmp_path, "a", with_level())
    here = made(tmp_path, "b", with_level())
    change_items(here, "orpo", -0.1, sd=0.0)
    assert against(here, baseline)["orpo gold_score"].fails


def test_a_cost_above_the_ratio_fails_and_the_option_wins_over_the_config(tmp_path: Path) -> None:
    baseline = made(tmp_path, "a", with_level())
    here = made(tmp_path, "b", with_level())
    for path in here.glob(f"orpo-*/{RECORD}"):
        record = json.loads(path.read_text())
        record["cost"]["train_seconds"] *= 1.5
        path.write_text(json.dumps(record))
    found = against(here, baseline)
    assert found["orpo training"].fails
    assert "1.50 times" in found["orpo training"].text
    assert not found["sft-dpo training"].fails
    assert not against(here, baseline, max_cost_ratio=1.6)["orpo training"].fails


def test_other_seeds_than_the_baselines_are_compared_by_their_means(tmp_path: Path) -> None:
    baseline = made(tmp_path, "a", with_level())
    here = made(tmp_path, "b", Run(seeds=5, num_items=200, changes={"first_seed": 20}))
    finding = against(here, baseline)["orpo training"]
    assert "means over other seeds" in finding.text
    assert not finding.fails


def test_a_cost_that_was_taken_over_from_the_baseline_is_not_compared_with_itself(tmp_path: Path) -> None:
    """A night of `seeds: rotate` holds the seeds of the nights before."""
    baseline = made(tmp_path, "a", Run(seeds=3))
    here = made(tmp_path, "b", Run(seeds=5))
    trials = [trial for trial in read_results(here).plan.trials if trial.name == "orpo"]
    for trial in trials:
        path = here / trial.training[0] / RECORD
        if trial.seed is not None and trial.seed < 3:
            path.write_text((baseline / trial.training[0] / RECORD).read_text())
        else:
            record = json.loads(path.read_text())
            record["cost"]["train_seconds"] *= 2
            path.write_text(json.dumps(record))
    finding = against(here, baseline)["orpo training"]
    assert finding.fails
    costs = [read_results(folder).records for folder in (baseline, here)]
    seconds = [
        [cost[trial.training[0]].cost.train_seconds for trial in trials if trial.seed in seeds]
        for cost, seeds in zip(costs, ({0, 1, 2}, {3, 4}), strict=True)
    ]
    ratio = np.mean(seconds[1]) / np.mean(seconds[0])
    assert f"{ratio:.2f} times the baseline's" in finding.text
    assert "means over other seeds" in finding.text
    again = against(baseline, baseline)["orpo training"]
    assert not again.fails
    assert "was not measured anew: every seed's is the baseline's" in again.text


def test_what_cannot_be_judged_does_not_pass(tmp_path: Path) -> None:
    baseline = made(tmp_path, "a", Run(seeds=3))
    few = made(tmp_path, "b", Run(seeds=2))
    assert against(few, baseline)["orpo gold_score"].fails
    gone = made(tmp_path, "c", Run(seeds=3, arms=["orpo"]))
    assert against(gone, baseline)["sft-dpo in"].fails
    unmeasured = made(tmp_path, "d", Run(seeds=3, unfinished=frozenset(("orpo", s) for s in range(3))))
    assert against(unmeasured, baseline)["orpo gold_score"].fails


def test_the_exit_code_is_1_with_a_line_for_each_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = made(tmp_path, "a", with_level())
    assert main(["gate", str(baseline), "--against", str(baseline)]) == 0
    assert "FAIL" not in capsys.readouterr().out
    here = made(tmp_path, "b", with_level(orpo=0.5, sft_dpo=0.5))
    assert main(["gate", str(here), "--against", str(baseline)]) == 1
    assert sum(line.startswith("FAIL") for line in capsys.readouterr().out.splitlines()) == 2
    assert main(["gate", str(here), "--against", str(tmp_path)]) == 2


def test_a_win_rate_that_decides_is_held_against_the_same_control(tmp_path: Path) -> None:
    def night(name: str, orpo: float, **changes: Any) -> Path:
        run = Run(
            seeds=5,
            num_items=200,
            levels={**LEVELS, "orpo": orpo},
            judges=({"name": "gold", "kind": "gold"},),
            decision={"metric": "win_rate_gold"},
            changes=changes,
        )
        return made(tmp_path, name, run)

    baseline = night("a", LEVELS["orpo"])
    found = against(night("same", LEVELS["orpo"]), baseline)
    assert not found["orpo win_rate_gold"].fails
    assert "5 seeds, 200 items" in found["orpo win_rate_gold"].text
    found = against(night("worse", LEVELS["orpo"] - 0.3), baseline)
    assert found["orpo win_rate_gold"].fails
    assert "got worse by more than the margin" in found["orpo win_rate_gold"].text
    assert not found["sft-dpo win_rate_gold"].fails
    found = against(night("other", LEVELS["orpo"], controls=["base"]), baseline)
    assert found["orpo win_rate_gold"].fails
    assert "against base here and against sft in the baseline" in found["orpo win_rate_gold"].text
