"""Every planted unfairness is caught by the check that is meant for it and by no unrelated one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from harness.audit import Audit, audit
from harness.audit.checks import Check
from harness.errors import UserError
from harness.identity import IDENTITY
from harness.plan import COMPARISON
from harness.records import Missing, read_record
from harness.results import read_results
from harness.rows import BATCHES
from pipelines.errors import NotFinite
from pipelines.models import load_base
from pipelines.outcomes import TrainOutcome
from tests.harness.audit.arms import Arms, change_config, make_arms
from tests.harness.audit.cases import PLANTED, WARNED, Planted
from tests.harness.audit.planted import without_a_chosen_reply
from tests.harness.audit.warned import metered

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    return make_arms(tmp_path_factory.mktemp("fair") / "planted")


@pytest.fixture
def arms(fair: Arms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arms:
    """A copy of the fair comparison that a test may spoil."""
    shutil.copytree(fair.folder, tmp_path / "planted")
    return Arms(tmp_path / "planted", monkeypatch)


def audited(arms: Arms) -> Audit:
    return audit(read_results(arms.folder))


def test_a_fair_comparison_passes_every_check_that_applies(fair: Arms) -> None:
    found = audited(fair)
    others = {check.id: check.evidence for check in found.checks if check.status != "pass"}
    assert found.verdict == "fair"
    assert others == {"machine_to_itself": "no finished training stage recorded it"}


@pytest.mark.parametrize("content", ["same", "other"])
def test_the_same_model_by_another_path_is_no_other_input(arms: Arms, content: str) -> None:
    """A run that went on from another folder names the same files by other paths."""
    evaluations = sorted(arms.folder.glob("evaluate-*"))
    for place, folder in enumerate(evaluations):
        described = {"settings": {"group": "preference"}, "content": {"model": "same" if place else content}}
        (folder / IDENTITY).write_text(json.dumps(described))
    for path in (evaluations[0] / "record.json", arms.folder / COMPARISON):
        found = json.loads(path.read_text())
        stages = [found["stage"]] if "stage" in found else found["stages"]
        for stage in stages:
            if stage["settings"].get("kind") == "evaluate" and stage["id"] == evaluations[0].name:
                stage["settings"]["model"]["name"] = "/elsewhere/model"
        path.write_text(json.dumps(found))
    assert audited(arms).verdict == ("fair" if content == "same" else "unfair")


def test_sft_on_a_share_of_the_pairs_passes_where_its_settings_say_so(arms: Arms) -> None:
    stage = arms.stage("sft")
    arms.train(stage.model_copy(update={"settings": stage.settings.model_copy(update={"share": 0.5})}))
    arms.train(arms.stage("dpo"))
    found = audited(arms)
    assert found.failed() == []
    assert {check.id for check in found.checks if check.status == "pass"} >= {
        "same_pairs",
        "reference_is_sft_policy",
    }


@pytest.mark.parametrize("key", ["optim", "num_train_epochs", "tuning", "sft.share"])
def test_what_is_declared_and_does_not_differ_is_not_told_as_a_difference(
    fair: Arms, arms: Arms, key: str
) -> None:
    change_config(arms, allow_difference={key: "in case"})
    before = {check.id: check for check in audited(fair).checks}
    after = {check.id: check for check in audited(arms).checks}
    assert after.pop("declared_differences").status == before.pop("declared_differences").status == "pass"
    assert after == before


def check_of(arms: Arms, name: str) -> Check:
    return next(check for check in audited(arms).checks if check.id == name)


def test_autocast_that_is_off_by_default_is_off(arms: Arms) -> None:
    for kind, bf16 in (("sft", False), ("orpo", None)):
        record = read_record(arms.folder / arms.stage(kind).id)
        assert record is not None
        assert isinstance(record.outcome, TrainOutcome)
        told = record.outcome.effective_arguments | ({} if bf16 is None else {"bf16": bf16})
        arms.change(record.stage.id, outcome=record.outcome.model_copy(update={"effective_arguments": told}))
    assert check_of(arms, "same_precision_and_adapter").status == "pass"


def test_a_reference_is_not_judged_where_sft_hardly_moved(arms: Arms) -> None:
    arms.train(arms.stage("sft", learning_rate=1e-9))
    arms.patch("train", "load_reference", load_base)
    arms.train(arms.stage("dpo"))
    found = check_of(arms, "reference_is_sft_policy")
    assert found.status == "not_applicable"
    assert "its policy and the base look alike" in found.evidence


def test_a_recording_without_its_sequences_is_one_line(arms: Arms) -> None:
    path = arms.folder / arms.stage("orpo").id / BATCHES
    lines = path.read_text().splitlines()
    path.write_text("\n".join(['{"step": 1}', *lines[1:]]))
    with pytest.raises(UserError, match="line 1 has no 'sequences'"):
        audited(arms)
    path.write_text("\n".join(['{"step": 1, "sequences": [{"uid": "a"}]}', *lines[1:]]))
    with pytest.raises(UserError, match="a sequence lacks 'ids'"):
        audited(arms)


def test_whether_the_machine_was_shared_may_not_be_known_of_every_stage(arms: Arms) -> None:
    def found() -> Check:
        return check_of(arms, "machine_to_itself")

    unknown = metered(contended=Missing(reason="NVML hides it"), share=0.01)
    for kind in ("sft", "dpo", "orpo"):
        arms.change(arms.stage(kind).id, cost=unknown)
    assert found().status == "not_applicable"
    assert "NVML hides it" in found().evidence
    for kind in ("sft", "dpo"):
        arms.change(arms.stage(kind).id, cost=metered(contended=False, share=0.01))
    assert (found().status, found().evidence.partition(";")[0]) == ("pass", "no other load in 2 stages")
    assert "not known of orpo seed" in found().evidence


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.words)
def test_an_unfairness_is_caught_by_the_check_meant_for_it(arms: Arms, planted: Planted) -> None:
    planted.plant(arms)
    found = audited(arms)
    assert found.verdict == "unfair"
    failed = {check.id: check.evidence for check in found.failed()}
    assert set(failed) == {planted.check, *planted.also}, failed
    assert re.search(planted.evidence, failed[planted.check])


def test_an_empty_completion_in_orpo_ends_its_stage_with_a_line_that_names_it(arms: Arms) -> None:
    """Its mean log-prob is 0/0, so there is nothing left to audit."""
    arms.given(without_a_chosen_reply)
    named = "loss is nan at step . of 6. the chosen reply of pair train-0003 reached the model empty"
    with pytest.raises(NotFinite, match=named):
        arms.train(arms.stage("orpo"))


@pytest.mark.parametrize("planted", WARNED, ids=lambda planted: planted.words)
def test_what_is_declared_or_concerns_costs_alone_is_a_warning_and_never_a_failure(
    arms: Arms, planted: Planted
) -> None:
    planted.plant(arms)
    found = audited(arms)
    assert (found.verdict, found.failed()) == ("fair", [])
    warnings = {check.id: check.evidence for check in found.checks if check.status == "warning"}
    assert set(warnings) == {planted.check, *planted.also}, warnings
    assert re.search(planted.evidence, warnings[planted.check])


def test_every_check_is_shown_to_fail_or_to_warn(fair: Arms) -> None:
    shown = {name for planted in (*PLANTED, *WARNED) for name in (planted.check, *planted.also)}
    assert {check.id for check in audited(fair).checks} == shown


def test_the_page_lists_exactly_what_is_planted() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| `([a-z_]+)` \| ([^|]*) \|$", (DOCS / "fairness.md").read_text(), flags=re.M
    )
    expected = [
        (planted.words, planted.check, ", ".join(f"`{name}`" for name in planted.also) or "-")
        for planted in (*PLANTED, *WARNED)
    ]
    assert [tuple(cell.strip() for cell in row) for row in rows] == expected
