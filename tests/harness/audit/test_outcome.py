"""What follows from an audit: its verdict, what is printed, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.audit import Audit
from harness.cli import main
from harness.report.write import write_report
from tests.harness.fixtures_results import Run, make_results

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
