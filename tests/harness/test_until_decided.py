"""Two looks at the data: the error rate of the scheme by simulation, and the order in which the command runs things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from harness.cli import main
from harness.config import Comparison
from harness.intervals import FloatArray
from harness.recommendation import recommendation
from harness.summary import summarise
from harness.summary_schema import Summary, read_summary
from harness.until_decided import FIRST_LOOK, LOOKS, run_until_decided, second_look
from harness.verdict import Rule, Scores, Verdict, judge
from tests.harness.fixtures_results import LEVELS, Run, make_results
from tests.harness.simulated_scores import SIX_CELLS, Cell

REPLICATIONS, MOST_SEEDS = 400, 20


def look(first: FloatArray, second: FloatArray, num_seeds: int, rule: Rule) -> Verdict:
    seeds = tuple(range(num_seeds))
    return judge(
        Scores("a", seeds, seeds, first[:num_seeds]), Scores("b", seeds, seeds, second[:num_seeds]), rule
    )


def decided(cell: Cell, difference: float, margin: float, replications: int = REPLICATIONS) -> dict[str, int]:
    """How often the scheme ends with each outcome."""
    outcomes = {"a": 0, "b": 0, "equivalent": 0, "undecided": 0}
    first, second = replace(cell, num_seeds=MOST_SEEDS).draw(replications, difference=difference, seed=5)
    rule = Rule(margin=margin, alpha=0.05 / LOOKS)
    for pair in zip(first, second, strict=True):
        verdict = look(*pair, FIRST_LOOK, rule)
        seeds = second_look(verdict.outcome, verdict.seeds_needed, MOST_SEEDS)
        if seeds is not None:
            verdict = look(*pair, seeds, rule)
        outcomes[verdict.outcome] += 1
    return outcomes


@pytest.mark.parametrize("cell", SIX_CELLS[1:3], ids=["S3-continuous", "S5-binary"])
def test_two_looks_at_half_of_alpha_find_a_false_better_in_at_most_5_percent(cell: Cell) -> None:
    outcomes = decided(cell, 0.0, 0.05)
    most_false = stats.binom.ppf(0.9995, REPLICATIONS, 0.05)
    assert outcomes["a"] + outcomes["b"] <= most_false
    assert outcomes["equivalent"] > REPLICATIONS / 2


def test_a_difference_of_the_margin_is_mostly_found_and_seldom_called_equivalent() -> None:
    outcomes = decided(SIX_CELLS[1], 0.05, 0.05)
    assert outcomes["a"] > 0.7 * REPLICATIONS
    assert outcomes["equivalent"] <= stats.binom.ppf(0.9995, REPLICATIONS, 0.05)
    assert outcomes["b"] == 0


@pytest.mark.slow
def test_the_rates_of_two_looks_in_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of docs/decisions/verdict.md: `pytest -m slow -s tests/harness/test_until_decided.py` prints it."""
    replications = 2000
    most_false = stats.binom.ppf(0.9995, replications, 0.05)
    for cell in SIX_CELLS[1:]:
        equal = decided(cell, 0.0, 0.05, replications)
        apart = decided(cell, 0.05, 0.05, replications)
        with capsys.disabled():
            print(f"\n{cell}\n  no difference: {equal}\n  a difference of the margin: {apart}")  # noqa: T201
        assert equal["a"] + equal["b"] <= most_false
        assert apart["equivalent"] + apart["b"] <= most_false


@pytest.mark.parametrize(
    ("outcome", "needed", "seeds"),
    [
        ("undecided", (5, 9), 9),
        ("undecided", (5, 90), 20),
        ("undecided", None, None),
        ("orpo", None, None),
        ("equivalent", None, None),
        ("incomplete", None, None),
    ],
)
def test_the_second_look_is_at_the_predicted_seeds_or_not_at_all(
    outcome: str, needed: tuple[int, int] | None, seeds: int | None
) -> None:
    assert second_look(outcome, needed, 20) == seeds


class FakeRun:
    """Makes up a results folder in place of training one."""

    def __init__(self, parent: Path, levels: dict[str, float], margin: float) -> None:
        self.parent, self.levels, self.margin = parent, levels, margin
        self.folder = parent
        self.runs: list[tuple[int, int]] = []

    def __call__(self, comparison: Comparison) -> int:
        decision = comparison.decision
        self.runs.append((comparison.seeds, decision.looks))
        run = Run(
            seeds=comparison.seeds,
            levels=LEVELS | self.levels,
            decision={"metric": "gold_score", "margin": self.margin, "looks": decision.looks},
        )
        self.folder = make_results(self.parent / str(len(self.runs)), run)
        summarise(self.folder)
        return 0

    def summary(self) -> Summary:
        return read_summary(self.folder)


@pytest.mark.parametrize(
    ("levels", "margin", "expected"),
    [
        ({"orpo": 0.95, "sft-dpo": 0.5}, 0.02, lambda runs: runs == [(3, 2)]),
        ({}, 0.02, lambda runs: len(runs) == 2 and 3 < runs[1][0] <= 8 and runs[1][1] == 2),
    ],
    ids=["decided at once", "undecided"],
)
def test_it_runs_at_three_seeds_and_at_most_once_more(
    tmp_path: Path,
    levels: dict[str, float],
    margin: float,
    expected: Callable[[list[tuple[int, int]]], bool],
) -> None:
    run, said = FakeRun(tmp_path, levels, margin), list[str]()
    comparison = Run(seeds=7).comparison()
    code = run_until_decided(comparison, max_seeds=8, run=run, summary=run.summary, say=said.append)
    assert code == 0
    assert expected(run.runs), run.runs
    assert len(said) == 1
    assert run.summary().verdict.alpha == 0.025


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (
            "incomplete",
            "failures differ between the arms: orpo lacks seed 1",
            "First look: incomplete at 3 seeds: failures differ between the arms: orpo lacks seed 1. Run the same command "
            "again: it repeats what failed or is missing, then goes on.",
        ),
        (
            "undecided",
            "more items are needed",
            "First look: undecided at 3 seeds: more items are needed. More seeds would not help.",
        ),
        ("equivalent", None, "First look: equivalent at 3 seeds. No more seeds are needed."),
        ("orpo", None, "First look: orpo at 3 seeds. No more seeds are needed."),
    ],
)
def test_why_the_first_look_was_the_last_is_said_as_it_is(
    tmp_path: Path, outcome: str, reason: str | None, expected: str
) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=3)))
    first = summary.verdict.model_copy(update={"outcome": outcome, "reason": reason, "seeds_needed": None})
    left = summary.model_copy(update={"verdict": first})
    said = list[str]()
    code = run_until_decided(
        Run().comparison(), max_seeds=8, run=lambda _planned: 1, summary=lambda: left, say=said.append
    )
    assert (code, said) == (1, [expected])


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([3], "The second and last look is at 8 seeds."),
        ([3, 8], "The second and last look is at 8 seeds."),  # it was stopped before
        (
            [3, 6],
            "The rule has no look left: the data were judged with 6 seeds before. The look at 8 seeds is one more, and adds false verdicts.",
        ),
    ],
)
def test_a_look_beyond_the_rules_two_is_announced_as_one(tmp_path: Path, looks: list[int], said: str) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=3)))
    assert summary.rule is not None
    left = summary.model_copy(
        update={
            "rule": summary.rule.model_copy(update={"looks": looks}),
            "verdict": summary.verdict.model_copy(update={"outcome": "undecided", "seeds_needed": (7, 12)}),
        }
    )
    lines = list[str]()
    run_until_decided(
        Run().comparison(), max_seeds=8, run=lambda _planned: 0, summary=lambda: left, say=lines.append
    )
    assert lines == [f"First look: undecided at 3 seeds. {said}"]


def test_a_rule_without_a_look_left_does_not_advise_more_seeds() -> None:
    decision = Run(decision={"metric": "gold_score", "looks": 2}).comparison().decision
    verdict = Verdict("undecided", "paired", 0.0, -0.1, 0.1, 0.9, 20, 200, seeds_needed=(30, 40))
    advice = recommendation(verdict, decision, None, [])
    assert "no look left" in advice
    assert "--seeds" not in advice


@pytest.mark.parametrize("option", [["--seeds", "5"], ["--arm", "orpo"], ["--set", "seeds=5"], ["--dry-run"]])
def test_it_chooses_seeds_and_arms_itself(
    option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.run.run_comparison", lambda *_, **__: 0)
    assert main(["run", "configs/toy.yaml", "--until-decided", *option]) == 2
    assert "--until-decided" in capsys.readouterr().err


def test_the_most_seeds_of_a_run_that_does_not_stop_by_itself_are_no_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.run.run_comparison", lambda *_, **__: 0)
    assert main(["run", "configs/toy.yaml", "--max-seeds", "5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--max-seeds: is for --until-decided.")
