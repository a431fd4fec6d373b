"""Reasons to doubt a verdict, rule by rule: each is given by what it is about, and not without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.audit.checks import Audit, Check
from harness.doubts import doubts
from harness.plan import Plan
from harness.planning import make_plan
from harness.results import Results, read_results
from harness.summary import make_summary
from harness.summary_schema import Contrast, Summary
from harness.tuning_doubts import tuning_doubts
from harness.win_rate_schema import Rate, WinRate
from pipelines.outcomes import DroppedRows
from tests.harness.fixtures_results import Run, make_results

Change = Callable[[Summary], Summary]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Summary]:
    """Enough seeds and items, nothing wrong; the recipes were run at one setting each."""
    results = read_results(make_results(tmp_path_factory.mktemp("made"), Run(seeds=5, num_items=200)))
    return results, make_summary(results)


def arm(name: str, **changes: Any) -> Change:
    """A summary in which an arm's metrics have other means, or its cost other numbers."""

    def change(summary: Summary) -> Summary:
        model = summary.arms[name]
        metrics = {
            key: about.model_copy(update={"mean": changes.get(key, about.mean)})
            for key, about in model.metrics.items()
        }
        cost = model.cost.model_copy(update={key: changes[key] for key in changes.keys() - metrics.keys()})
        changed = model.model_copy(update={"metrics": metrics, "cost": cost})
        return summary.model_copy(update={"arms": {**summary.arms, name: changed}})

    return change


def data(**changes: Any) -> Change:
    return lambda summary: summary.model_copy(
        update={"data": summary.data and summary.data.model_copy(update=changes)}
    )


def warned(check: str) -> Change:
    checks = [
        Check(id=check, status="warning", evidence="seen"),
        Check(id="b", status="pass", evidence="fine"),
    ]
    return lambda summary: summary.model_copy(update={"audit": Audit(verdict="fair", checks=checks)})


def judged(
    low: float, high: float, pair: tuple[str, str] = ("orpo", "sft-dpo"), *, unread: int = 0
) -> Change:
    rate = Rate(mean=(low + high) / 2, low=low, high=high)
    shares = {"wins": 0.5, "ties": 0.0, "losses": 0.5, "num_seeds": 4, "num_items": 190}
    unjudged = {"num_seeds_without_verdict": 1, "num_items_left_out": 10, "num_unparsable": unread}
    one = WinRate(judge="critic", kind="llm", pair=pair, rate=rate, position_bias=rate, **shares, **unjudged)
    return lambda summary: summary.model_copy(update={"win_rates": [one]})


def measured(
    outcome: str, difference: float, metric: str = "gold_score_sampled", *, detected: bool = True
) -> Change:
    """A verdict on gold_score, and another metric of the two arms."""
    contrast = Contrast(
        metric=metric,
        pair=("orpo", "sft-dpo"),
        direction="higher",
        difference=difference,
        low=difference - 0.01,
        high=difference + 0.01,
        p_value=0.001,
        p_holm=0.014,
        detected=detected,
        detectable=0.02,
        num_seeds=5,
        num_items=200,
        reason=None,
    )
    return lambda summary: summary.model_copy(
        update={
            "secondary": [contrast],
            "verdict": summary.verdict.model_copy(update={"outcome": outcome, "margin": 0.02}),
        }
    )


DROPPED = DroppedRows(reason="equal", num_rows=16, first_rows=[0])


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (arm("orpo", reply_length_tokens=40.0), "replies differ in length (40.0 against 30.0 tokens)"),
        (arm("orpo", reply_length_tokens=35.0), None),
        (arm("orpo", stopped_share=0.8), "20.0 % of orpo's replies were cut at the length limit"),
        (arm("orpo", stopped_share=0.95), None),
        (judged(0.45, 0.55, unread=50), None),
        (judged(0.45, 0.55, unread=51), "critic gave no verdict in 5.10 % of the arms' matches"),
        (judged(0.45, 0.55, ("orpo", "sft"), unread=900), None),
        (arm("orpo", num_policy_tokens=1.0e6), "times the tokens of sft-dpo through its policy"),
        (data(dropped=[DROPPED]), "16 of 302 rows were dropped"),
        (data(dropped=[DROPPED.model_copy(update={"num_rows": 15})]), None),
        (data(num_truncated=16), "16 of 302 rows had their prompt cut to fit the window"),
        (data(num_truncated=15), None),
        (warned("same_order"), "the audit warns (same_order): seen"),
        (warned("machine_to_itself"), None),  # has a sentence of its own, on the costs
        (judged(0.55, 0.65), "the judge critic goes by position: the reply that it was shown first won 0.600 (0.550 to 0.650) of the matches"),
        (judged(0.3, 0.4), "goes by position"),
        (judged(0.45, 0.55), None),
        (judged(0.6, 0.7, ("orpo", "base")), None),
        (measured("undecided", -0.08), "gold_score_sampled tells the arms apart: sft-dpo is better (orpo minus sft-dpo -0.080"),
        (measured("orpo", -0.08), "gold_score_sampled says the opposite: sft-dpo is better"),
        (measured("equivalent", 0.08), "gold_score_sampled tells the arms apart: orpo is better"),
        (measured("equivalent", 0.01), None),  # below the margin, as the verdict has it
        (measured("sft-dpo", -0.08), None),
        (measured("unfair", -0.08), None),
        (measured("undecided", -0.08, detected=False), None),
        (measured("undecided", -0.08, "log_ratio_accuracy"), None),  # another quantity
    ],
)  # fmt: skip
def test_each_rule_has_its_doubt(made: tuple[Results, Summary], change: Change, doubt: str | None) -> None:
    results, summary = made
    before = doubts(results, measured("undecided", 0.0, detected=False)(summary))
    found = [one for one in doubts(results, change(summary)) if one not in before]
    if doubt is None:
        assert found == []
    else:
        assert len(found) == 1
        assert doubt in found[0]


def test_what_another_measure_says_stands_before_the_number_of_items(made: tuple[Results, Summary]) -> None:
    results, summary = made
    few = summary.model_copy(update={"verdict": summary.verdict.model_copy(update={"num_items": 100})})
    first, second, *_ = doubts(results, measured("undecided", -0.08)(few))
    assert first.startswith("gold_score_sampled tells the arms apart")
    assert second.startswith("only 100 items")


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"versions": {"torch": "0"}}, "stages ran with different library versions"),
        ({"git_commit": "0123-dirty"}, "stages ran from code with changes that were not committed"),
    ],
)
def test_stages_of_other_code_are_a_reason_to_doubt(
    made: tuple[Results, Summary], changes: dict[str, Any], doubt: str
) -> None:
    results, summary = made
    name, record = next(iter(results.records.items()))
    other = replace(results, records={**results.records, name: record.model_copy(update=changes)})
    assert doubt not in doubts(results, summary)
    assert doubt in doubts(other, summary)


def swept(orpo: dict[str, Any], chosen: int, sft_dpo: dict[str, Any] | None = None) -> Plan:
    """A plan in which both arms are swept; DPO over beta and both learning rates, an inner value of each chosen."""
    whole = {
        "1.arguments.beta": [0.1],
        "0.arguments.learning_rate": [1e-3],
        "1.arguments.learning_rate": [1e-4],
    }
    points = [{key: scale * values[0] for key, values in whole.items()} for scale in (1, 2, 3)]
    arms = {"orpo": orpo, "sft-dpo": sft_dpo or {"points": points}}
    changes = {"sweep": {"arms": arms, "metric": "gold_score", "unequal_effort": "made up"}}
    return make_plan(Run(changes=changes).comparison(), chosen={"orpo": chosen, "sft-dpo": 1})


BETA, RATE = "0.arguments.beta", "0.arguments.learning_rate"


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (swept({"points": [{BETA: 0.1, RATE: 1e-3}, {BETA: 0.2, RATE: 2e-3}, {BETA: 0.3, RATE: 3e-3}]}, 1), []),
        (
            swept({"points": [{BETA: 0.1, RATE: 1e-3}, {BETA: 0.2, RATE: 2e-3}, {BETA: 0.3, RATE: 1e-3}]}, 2),
            [
                "orpo's chosen 0.arguments.beta, 0.3, is the highest that was tried: a better one may lie beyond",
                "orpo's chosen 0.arguments.learning_rate, 0.001, is the lowest that was tried: a better one may lie beyond",
            ],
        ),
        (swept({"grid": {BETA: [0.1, 0.2, 0.3]}}, 1), ["one learning rate was tried in orpo (1. orpo)"]),
        (
            swept({"grid": {BETA: [0.1]}}, 0),
            ["orpo ran at one setting of its hyperparameters; how well it is tuned was not measured"],
        ),
        (
            make_plan(Run().comparison()),
            ["orpo and sft-dpo ran at one setting of their hyperparameters each; how well either is tuned was not measured"],
        ),
    ],
    ids=["inside", "at an end", "one learning rate", "a sweep of one point", "no sweep"],
)  # fmt: skip
def test_what_was_not_tuned_is_said(plan: Plan, expected: list[str]) -> None:
    assert list(tuning_doubts(plan)) == expected
