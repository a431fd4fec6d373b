"""Verdicts about models that were really trained: equal arms are not told apart, an arm trained backwards loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.results import read_results
from harness.scores import Table, score_tables, scores_of
from harness.verdict import Rule, Scores, Verdict, judge
from pipelines.data.splitting import split_of
from pipelines.stages import DataSettings
from pipelines.toy.tickets import make_pairs
from tests.end_to_end.small import prefduel

pytestmark = pytest.mark.slow

NUM_SEEDS = 8
ARMS = ("orpo", "sft-dpo")
METRIC = "preference_accuracy"
SPLIT = {"validation_share": 0.05, "test_share": 0.4}
RULE = Rule(margin=0.05)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both arms of the toy world, eight seeds, trained as they should be and with chosen and rejected swapped.

    Only pairs to train on are swapped: both are judged on the same test pairs.
    """
    root = tmp_path_factory.mktemp("trained")
    rows = make_pairs(400, seed=5)
    _compare(root, "healthy", rows)
    _compare(root, "damaged", [_swapped(row) if _is_trained_on(row) else row for row in rows])
    return root


@pytest.mark.parametrize("arm", ARMS)
def test_one_arm_against_itself_is_not_better(trained: Path, arm: str) -> None:
    table = _table(trained, "healthy", arm)

    verdict = judge(_half(table, 0), _half(table, 1), RULE)

    assert verdict.outcome in ("equivalent", "undecided"), verdict


@pytest.mark.parametrize("damaged", ARMS)
@pytest.mark.parametrize("healthy", ARMS)
def test_an_arm_trained_backwards_loses(trained: Path, healthy: str, damaged: str) -> None:
    verdict = _judge(trained, ("healthy", healthy), ("damaged", damaged))

    assert verdict.outcome == f"healthy {healthy}", verdict
    assert verdict.low is not None
    assert verdict.low > RULE.margin


@pytest.mark.parametrize("damaged", ARMS)
def test_swapping_the_arms_mirrors_the_verdict(trained: Path, damaged: str) -> None:
    one = _judge(trained, ("healthy", "orpo"), ("damaged", damaged))
    other = _judge(trained, ("damaged", damaged), ("healthy", "orpo"))

    assert other.outcome == one.outcome
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))


def _compare(root: Path, name: str, rows: list[dict[str, str]]) -> None:
    (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rate = {"learning_rate": 1e-3, "num_train_epochs": 2}
    content: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "model": {"name": "toy"},
        "data": {"path": str(root / f"{name}.jsonl"), **SPLIT},
        "training": {"effective_batch": 16, "micro_batch": 16, "max_length": 128},
        "arms": {
            "orpo": [{"trainer": "orpo", "implementation": "fused", "arguments": rate}],
            "sft-dpo": [{"trainer": "sft", "arguments": rate}, {"trainer": "dpo", "arguments": rate}],
        },
        "controls": [],
        "seeds": NUM_SEEDS,
        "threads": 1,
        "device": "cpu",
        "decision": {"compare": list(ARMS), "metric": METRIC, "margin": RULE.margin},
    }
    (root / f"{name}.yaml").write_text(yaml.safe_dump(content))
    done = prefduel("run", f"{name}.yaml", "--quiet", cwd=root)
    assert done.returncode == 0, done.stderr


def _is_trained_on(row: dict[str, str]) -> bool:
    prompt = [{"role": "user", "content": row["prompt"]}]
    return split_of(prompt, DataSettings(path="pairs.jsonl", **SPLIT)) != "test"


def _swapped(row: dict[str, str]) -> dict[str, str]:
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def _table(root: Path, comparison: str, arm: str) -> Table:
    results = read_results(root / "results" / comparison)
    return score_tables(results, results.models()[arm])[METRIC]


def _half(table: Table, first: int) -> Scores:
    """Every second seed, from the one at place `first` on, as if it were an arm of its own."""
    seeds = tuple(seed for seed in table.seeds if seed is not None)[first::2]
    return Scores(f"half {first}", seeds, seeds, table.units()[first::2])


def _judge(root: Path, first: tuple[str, str], second: tuple[str, str]) -> Verdict:
    tables = [_table(root, *arm) for arm in (first, second)]
    assert tables[0].items == tables[1].items, "both must be judged on the same test pairs"
    one, other = (
        scores_of(" ".join(arm), METRIC, table, items=table.items)
        for arm, table in zip((first, second), tables, strict=True)
    )
    return judge(one, other, RULE)
