"""Arms that differ in one number alone are a sweep; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.page import Figure, Table
from harness.report.sweep import Sweep, sweep_section, sweeps
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import LEVELS, Run, make_results


def orpo(beta: float, rate: float = 1e-3, **more: Any) -> list[dict[str, Any]]:
    return [{"trainer": "orpo", "arguments": {"beta": beta, "learning_rate": rate}, **more}]


def view(tmp_path: Path, arms: dict[str, Any]) -> View:
    levels = LEVELS | {arm: 0.5 + 0.05 * place for place, arm in enumerate(arms)}
    decision = {"metric": "gold_score", "compare": list(arms)[:2]}
    results = read_results(
        make_results(tmp_path, Run(levels=levels, changes={"arms": arms}, decision=decision))
    )
    return View(results, make_summary(results))


def test_three_arms_that_differ_in_one_number_are_a_sweep(tmp_path: Path) -> None:
    arms = {"b": orpo(1.0), "a": orpo(0.1), "c": orpo(0.2), "faster": orpo(0.1, rate=1e-2)}
    seen = view(tmp_path, arms)
    assert sweeps(seen) == [Sweep("orpo beta", {0.1: "a", 0.2: "c", 1.0: "b"})]
    section = sweep_section(seen)
    assert section is not None
    figure, table, _ = section.blocks
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert [(row[1], row[2]) for row in table.rows] == [("0.1", "a"), ("0.2", "c"), ("1", "b")]
    means = [seen.summary.arms[arm].metrics["gold_score"].mean for arm in ("a", "c", "b")]
    for mean, row in zip(means, table.rows, strict=True):
        assert abs(float(str(row[3])) - mean) < 0.005
        assert f"{mean:.3g} at {row[1]}" in figure.alt


def test_arms_that_differ_in_more_are_none(tmp_path: Path) -> None:
    arms = {
        "a": orpo(0.1),
        "b": orpo(0.2),
        "c": orpo(0.3, rate=1e-2),
        "d": orpo(0.4, nll="prompt_and_completion"),
    }
    assert sweep_section(view(tmp_path, arms)) is None
