"""When the rule was declared: the file that is only added to, the hash in records, and what a report says of a change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import Decision
from harness.declared import DECISIONS, declare, read_declarations
from harness.errors import UserError
from harness.identity import canonical_hash, decision_hash
from harness.plan import COMPARISON, Plan, read_plan
from harness.planning import make_plan
from harness.recommendation import verdict_lines
from harness.records import write_json
from harness.summary import summarise
from harness.summary_schema import RuleStatus
from tests.harness.fixtures_results import Run, make_results

RULE: Mapping[str, Any] = {"metric": "gold_score", "margin": 0.02}
OTHER: Mapping[str, Any] = {"metric": "gold_score", "margin": 0.3}


def plan_of(decision: Mapping[str, Any], seeds: int = 3) -> Plan:
    return make_plan(Run(seeds=seeds, decision=dict(decision)).comparison())


def stamp(folder: Path, rule: str) -> None:
    """As a run does: the hash of the rule in force goes into each record."""
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"decision_hash": rule}))


def run_again(folder: Path, plan: Plan) -> None:
    """What `prefduel run` leaves of its rule when every stage is done already."""
    declare(folder, plan, {})
    write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))


def status(folder: Path) -> RuleStatus:
    rule = summarise(folder).rule
    assert rule is not None
    return rule.status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results that were measured under RULE, declared before."""
    (tmp_path / "before").mkdir()
    declare(tmp_path / "before", plan_of(RULE), {})
    made = make_results(tmp_path, Run(decision=dict(RULE)))
    (tmp_path / "before" / DECISIONS).rename(made / DECISIONS)
    stamp(made, plan_of(RULE).decision_hash)
    return made


def test_a_rule_declared_before_the_data_is_called_so(folder: Path) -> None:
    assert status(folder) == "declared"
    assert "decided after" not in verdict_lines(summarise(folder))[0]


def test_a_rule_that_was_edited_in_the_results_is_no_declared_one(folder: Path) -> None:
    path = folder / COMPARISON
    content = json.loads(path.read_text())
    content["comparison"]["decision"]["margin"] = 0.05
    path.write_text(json.dumps(content))
    summary = summarise(folder)
    assert summary.rule is not None
    assert summary.rule.status == "after_data"
    assert summary.verdict.decision_hash == decision_hash(Decision(metric="gold_score", margin=0.05))
    content["decision_hash"] = summary.verdict.decision_hash  # also by somebody who knows of the hash
    path.write_text(json.dumps(content))
    assert status(folder) == "after_data"
    lines = (folder / DECISIONS).read_text().replace('"margin":0.02', '"margin":0.05')
    (folder / DECISIONS).write_text(lines)
    assert status(folder) == "after_data"


def test_the_same_declaration_is_written_once_and_a_new_one_is_added(folder: Path) -> None:
    first = (folder / DECISIONS).read_text()
    run_again(folder, plan_of(RULE))
    assert (folder / DECISIONS).read_text() == first
    run_again(folder, plan_of(OTHER))
    assert (folder / DECISIONS).read_text().startswith(first)
    assert [line.decision.margin for line in read_declarations(folder)] == [0.02, 0.3]
    assert [line.num_measured for line in read_declarations(folder)] == [0, 30]


def test_a_rule_that_was_changed_after_the_data_is_shown_in_the_first_line(folder: Path) -> None:
    run_again(folder, plan_of(OTHER))
    summary = summarise(folder)
    assert summary.rule is not None
    assert summary.rule.status == "after_data"
    assert summary.rule.first is not None
    assert summary.rule.first["margin"] == 0.02
    first, _, third = verdict_lines(summary)
    assert first.startswith("Verdict: by a rule decided after the data were seen: ")
    assert third == "Strongest reason to doubt: the rule was decided after the data were seen."


@pytest.mark.parametrize("witness", ["decisions", "records"])
def test_either_witness_alone_shows_the_change(folder: Path, witness: str) -> None:
    run_again(folder, plan_of(OTHER))
    if witness == "records":
        (folder / DECISIONS).unlink()
    else:
        stamp(folder, plan_of(OTHER).decision_hash)
    assert status(folder) == "after_data"


def test_going_back_to_the_declared_rule_is_no_change(folder: Path) -> None:
    run_again(folder, plan_of(OTHER))
    run_again(folder, plan_of(RULE))
    assert status(folder) == "declared"


def test_a_rule_changed_before_anything_was_measured_is_declared(tmp_path: Path) -> None:
    declare(tmp_path, plan_of(OTHER), {})
    declare(tmp_path, plan_of(RULE), {})
    lines = (tmp_path / DECISIONS).read_text()
    made = make_results(tmp_path, Run(decision=dict(RULE)))
    (made / DECISIONS).write_text(lines)
    stamp(made, plan_of(RULE).decision_hash)
    assert status(made) == "declared"
    rule = summarise(made).rule
    assert rule is not None
    assert rule.looks == [3]


def test_results_of_a_version_that_kept_nothing_are_unknown(tmp_path: Path) -> None:
    assert status(make_results(tmp_path)) == "unknown"


def test_more_looks_than_the_rule_has_are_a_reason_to_doubt(folder: Path) -> None:
    run_again(folder, plan_of(RULE, seeds=5))
    doubts = summarise(folder).doubts
    assert any("judged with 3 and then 5 seeds by a rule for 1 look" in doubt for doubt in doubts)


def share(
    source: Path, name: str, plan: Plan, shared: int, arms: Sequence[str] = ("orpo", "sft-dpo")
) -> Path:
    """A comparison beside `source` that takes over the evaluations of the first `shared` seeds of the arms."""
    compared = [
        stage_id
        for trial in plan.trials
        if trial.name in arms and (trial.seed or 0) < shared
        for stage_id in trial.evaluations
    ]
    folder = source.parent / name
    folder.mkdir()
    declare(folder, plan, {stage_id: source / stage_id for stage_id in compared})
    return folder


@pytest.mark.parametrize(
    ("seeds", "looks"),
    [(5, [("made-up", 3), ("again", 5)]), (3, [("again", 3)])],
    ids=["two seeds more", "the same data once more"],
)
def test_a_look_under_another_name_counts_where_its_evaluations_are_taken_over(
    folder: Path, seeds: int, looks: list[tuple[str, int]]
) -> None:
    summarise(folder)
    again = share(folder, "again", plan_of(RULE, seeds=seeds), 3)
    line = read_declarations(again)[0]
    assert [(look.comparison, look.seeds) for look in line.elsewhere] == looks[:-1]
    shutil.copytree(folder, again, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DECISIONS))
    (again / COMPARISON).write_text(plan_of(RULE, seeds=seeds).model_dump_json(by_alias=True))
    summary = summarise(again)
    assert summary.rule is not None
    assert summary.rule.looks == [number for _, number in looks]
    first = folder if len(looks) > 1 else again
    assert summary.rule.declared_at == read_declarations(first)[0].at
    assert any("judged with" in doubt for doubt in summary.doubts) == (len(looks) > 1)


def test_an_arm_that_another_comparison_measured_shows_no_difference_of_these_two(folder: Path) -> None:
    summarise(folder)
    again = share(folder, "again", plan_of(RULE, seeds=5), 3, arms=("sft-dpo",))
    assert read_declarations(again)[0].elsewhere == []
    plan = read_plan(folder)
    of_one_arm = {
        stage_id for trial in plan.trials if trial.name == "sft-dpo" for stage_id in trial.evaluations
    }
    for stage_id in of_one_arm:  # as taken over from a comparison of another rule
        path = folder / stage_id / "record.json"
        earlier = {"decision_hash": plan_of(OTHER).decision_hash, "started_at": "2020-01-01T00:00:00+00:00"}
        path.write_text(json.dumps(json.loads(path.read_text()) | earlier))
    assert status(folder) == "declared"
    stamp(folder, plan_of(OTHER).decision_hash)
    assert status(folder) == "after_data"


def test_what_nobody_has_judged_yet_was_no_look(folder: Path) -> None:
    again = share(folder, "again", plan_of(RULE, seeds=5), 3)
    assert read_declarations(again)[0].elsewhere == []


def test_a_look_by_another_rule_is_no_look_by_this_one(folder: Path) -> None:
    summarise(folder)
    again = share(folder, "again", plan_of(OTHER, seeds=5), 3)
    assert read_declarations(again)[0].elsewhere == []


def test_looks_of_looks_are_kept_and_ones_own_are_not_counted_twice(folder: Path) -> None:
    summarise(folder)
    again = share(folder, "again", plan_of(RULE, seeds=4), 3)
    shutil.copytree(folder, again, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DECISIONS))
    third = share(again, "third", plan_of(RULE, seeds=5), 3)
    made = [(look.comparison, look.seeds) for look in read_declarations(third)[0].elsewhere]
    assert made == [("made-up", 3), ("again", 4)]
    taken = {stage_id: again / stage_id for trial in plan_of(RULE).trials for stage_id in trial.evaluations}
    declare(folder, plan_of(RULE, seeds=5), taken)
    assert [(look.comparison, look.seeds) for look in read_declarations(folder)[-1].elsewhere] == [
        ("again", 4)
    ]


def test_a_damaged_declaration_of_another_comparison_stops_no_run(folder: Path) -> None:
    summarise(folder)
    (folder / DECISIONS).write_text("{}\n")
    again = share(folder, "again", plan_of(RULE, seeds=5), 3)
    assert read_declarations(again)[0].elsewhere == []


def test_a_run_of_too_few_seeds_for_a_verdict_was_no_look(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=2, decision=dict(RULE)))
    declare(folder, plan_of(RULE, seeds=2), {})
    run_again(folder, plan_of(RULE, seeds=5))
    assert not any("were judged with" in doubt for doubt in summarise(folder).doubts)


def test_a_damaged_line_is_said_in_one_line(folder: Path) -> None:
    (folder / DECISIONS).write_text("{}\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        summarise(folder)


def test_a_line_that_a_power_cut_left_half_written_is_passed_over(folder: Path) -> None:
    path = folder / DECISIONS
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    assert len(read_declarations(folder)) == 1
    run_again(folder, plan_of(OTHER))
    assert [line.decision.margin for line in read_declarations(folder)] == [0.02, 0.3]


def test_a_rule_without_looks_keeps_the_hash_of_versions_before() -> None:
    decision = Decision(margin=0.05)
    described = decision.model_dump(mode="json")
    del described["looks"]
    assert decision_hash(decision) == canonical_hash(described)
    assert decision_hash(Decision(margin=0.05, looks=2)) != decision_hash(decision)


def test_decide_recomputes_the_verdict_and_marks_another_rule(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    summarise(folder)
    declared = json.loads((folder / "summary.json").read_text())
    assert main(["decide", str(folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["verdict"] == declared["verdict"]
    assert content["rule"]["status"] == "declared"
    assert main(["decide", str(folder), "--margin", "0.3", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["verdict"]["outcome"], content["rule"]["status"]) == ("equivalent", "after_data")
    assert main(["decide", str(folder), "--metric", "chosen_nll"]) == 0
    assert "by a rule decided after the data were seen" in capsys.readouterr().out
    (folder / "summary.json").unlink()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--margin", "-1"], "--margin -1.0: input should be greater than 0."),
        (["--margin", "inf"], "--margin inf: input should be a finite number."),
        (["--margin", "nan"], "--margin nan: input should be a finite number."),
        (["--alpha", "1e-16"], "--alpha 1e-16: input should be greater than or equal to 0.000001."),
        (["--alpha", "0.7"], "--alpha 0.7: input should be less than 0.5."),
        (["--metric", "gold_scor"], "Did you mean gold_score?"),
        (["--metric", "reply_length_tokens"], "has a better direction"),
    ],
)
def test_decide_explains_a_rule_that_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str], option: list[str], message: str
) -> None:
    assert main(["decide", str(folder), *option]) == 2
    assert message in capsys.readouterr().err


def test_a_rule_of_afterwards_stands_before_what_is_said_of_the_controls(folder: Path) -> None:
    run_again(folder, plan_of(OTHER))
    summary = summarise(folder)
    unproven = [each.model_copy(update={"detected": False, "high": 0.1}) for each in summary.baselines]
    first = verdict_lines(summary.model_copy(update={"baselines": unproven}))[0]
    assert first.startswith("Verdict: by a rule decided after the data were seen: neither arm")
