"""What follows from an audit: its verdict, what is printed, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.audit import Audit
from harness.cli import main
from harness.plan_so_far import plan_from
from harness.records import read_record, write_record
from harness.report.write import write_report
from harness.results import read_results
from harness.run import run_comparison
from harness.summary import make_summary, summarise
from harness.summary_schema import SUMMARY
from tests.harness.fixtures_results import LEVELS, Run, add_products, make_results, write_results

ORPO_ALONE = "of orpo and sft-dpo orpo alone finished its training: there is nothing to compare"
NOTHING_TRAINED = frozenset((name, seed) for name in ("orpo", "sft-dpo", "sft") for seed in range(3))


def audited(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Audit]:
    code = main(["audit", str(folder), "--json"])
    return code, Audit.model_validate_json(capsys.readouterr().out)


def test_what_says_that_arms_are_alike_does_not_apply_where_one_arm_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = make_results(tmp_path / "both")
    passed = {check.id for check in audited(both, capsys)[1].checks if check.status == "pass"}
    one = make_results(tmp_path / "one", Run(arms=["orpo"]))
    code, found = audited(one, capsys)
    assert (code, found.verdict) == (0, "fair")
    assert {check.id: check.evidence for check in found.unjudged() if check.id in passed} == dict.fromkeys(
        (
            "same_precision_and_adapter",
            "same_settings",
            "equal_evaluation_inputs",
            "equal_tuning_effort",
            "same_library_versions",
            "same_kind_of_hardware",
        ),
        ORPO_ALONE,
    )
    assert main(["audit", str(one)]) == 0
    assert f"verdict of the audit: fair; {ORPO_ALONE}; " in capsys.readouterr().out
    assert f"The audit's verdict: fair ({ORPO_ALONE})." in write_report(one, tmp_path).read_text()


def test_a_second_arm_that_did_not_finish_is_no_arm_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {("sft-dpo", seed): ("out_of_memory", "x") for seed in range(3)}
    folder = make_results(tmp_path, Run(failed=failed))  # type: ignore[arg-type]
    code, found = audited(folder, capsys)
    assert (code, found.verdict, found.not_compared()) == (0, "fair", ORPO_ALONE)


def test_where_nothing_was_trained_nothing_is_fair_and_json_text_and_exit_code_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path, Run(unfinished=NOTHING_TRAINED, changes={"controls": []}))
    for trained in folder.glob("*-*"):
        if trained.name.partition("-")[0] in ("sft", "dpo", "orpo"):
            (trained / "record.json").unlink()
    code, found = audited(folder, capsys)
    assert (code, found.verdict) == (1, "unfair")
    assert [check.evidence for check in found.checks if check.id == "recorded"] == [
        "no training stage finished"
    ]
    assert not [
        check.id for check in found.checks if check.status == "pass" and check.id != "declared_differences"
    ]
    assert main(["audit", str(folder)]) == 1
    shown = capsys.readouterr()
    assert "verdict of the audit: unfair: nothing to judge, no training stage finished; " in shown.out
    assert shown.err == ""


def on_another_machine(folder: Path) -> None:
    """One of ORPO's stages was."""
    stage = next(folder.glob("orpo-*"))
    record = read_record(stage)
    assert record is not None
    machine = record.machine.model_copy(update={"processor": "Other CPU"})
    write_record(stage, record.model_copy(update={"machine": machine}))


def finished(results: Path) -> Path:
    """A results folder in which nothing is left to do."""
    run = Run()
    folder = results / "made-up"
    write_results(folder, plan_from(run.comparison(), folder), run)
    add_products(folder)
    return folder


def run_again(results: Path) -> int:
    return run_comparison(
        Run().comparison(), arms=None, results=results, reports=results / "reports", quiet=True
    )


def test_audit_of_an_unfair_comparison_names_the_check_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path)
    on_another_machine(folder)
    assert main(["audit", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("fail")]
    assert [line.split()[1] for line in failed] == ["same_kind_of_hardware:"]
    assert "Other CPU" in failed[0]
    assert lines[-1].startswith("verdict of the audit: unfair; ")


def test_a_run_whose_arms_were_not_treated_alike_exits_with_1_and_all_that_it_writes_says_so_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path)
    assert run_again(tmp_path) == 0
    assert "unfair," not in capsys.readouterr().out
    on_another_machine(folder)
    assert run_again(tmp_path) == 1
    said = "unfair, so no verdict on orpo against sft-dpo (same_kind_of_hardware: "
    assert capsys.readouterr().out.startswith(f"Verdict: {said}")
    lines = (tmp_path / "reports/made-up.md").read_text().splitlines()
    assert next(line for line in lines if line.startswith("- ")).startswith(f"- **Verdict:** {said}")
    verdict = json.loads((folder / SUMMARY).read_text())["verdict"]
    assert verdict["outcome"] == "unfair"
    assert verdict["reason"].startswith("same_kind_of_hardware: orpo seed ")
    assert verdict["recommendation"].startswith("do not decide by these numbers")


def test_a_summary_of_before_the_files_changed_is_told_and_neither_audit_nor_report_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path)
    summarise(folder)
    assert main(["audit", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    written = (folder / SUMMARY).read_bytes()
    on_another_machine(folder)
    assert main(["audit", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{folder / SUMMARY} says fair: it is of the last run")
    assert error.count("\n") == 1
    assert main(["report", str(folder), "--reports", str(tmp_path / "reports")]) == 0
    assert "Verdict:** unfair" in (tmp_path / "reports/made-up.md").read_text()
    assert (folder / SUMMARY).read_bytes() == written


def test_an_unfair_outcome_keeps_its_numbers_and_tells_how_many_checks_failed(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    fair = make_summary(read_results(folder)).verdict
    on_another_machine(folder)
    stage = next(folder.glob("dpo-*"))
    record = read_record(stage)
    assert record is not None
    write_record(stage, record.model_copy(update={"versions": record.versions | {"trl": "0.29.0"}}))
    found = make_summary(read_results(folder)).verdict
    assert (found.outcome, fair.outcome != "unfair") == ("unfair", True)
    assert (found.difference, found.low, found.high) == (fair.difference, fair.low, fair.high)
    assert found.reason is not None
    assert found.reason.startswith("same_library_versions: ")
    assert found.reason.endswith("; 1 more check failed")


def test_a_folder_without_results_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["audit", str(tmp_path)], ["audit", str(tmp_path / "absent"), "--json"]):
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert str(tmp_path) in shown.err


def test_no_number_of_seeds_mends_an_unfair_comparison(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(levels=dict.fromkeys(LEVELS, 0.7), shifts={("orpo", 1): 0.1}))
    undecided = make_summary(read_results(folder)).verdict
    assert undecided.outcome == "undecided"
    assert undecided.seeds_needed
    on_another_machine(folder)
    unfair = make_summary(read_results(folder)).verdict
    assert (unfair.outcome, unfair.seeds_needed) == ("unfair", None)
