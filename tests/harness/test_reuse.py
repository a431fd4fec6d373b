"""Finished stages serve every comparison of a results folder; stages without weights run again only when needed."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from harness.integrity import GIVEN_UP, standing
from harness.plan import Plan, read_plan
from harness.records import ITEMS, read_record, write_record
from harness.reuse import ADOPTED, adopt, inputs_of, mark_outdated, work_left
from tests.harness.fixtures_results import Run, make_results


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A comparison that is done, weights and all."""
    folder = make_results(tmp_path, Run())
    for stage in read_plan(folder).stages:
        for product in ("model", "splits", "tokenizer"):
            (folder / stage.id / product).mkdir()
    return folder


def give_up_weights(folder: Path, kind: str) -> None:
    for stage in folder.glob(f"{kind}-*"):
        shutil.rmtree(stage / "model")
        (stage / GIVEN_UP).write_text("{}")


def left(plan: Plan, folder: Path) -> Counter[str]:
    return Counter(stage.kind for stage in work_left(plan, folder).todo)


def with_dependents(plan: Plan, stage_id: str) -> list[str]:
    """The stage and all that is made from it, in the order of the plan."""
    found = [stage_id]
    for stage in plan.stages:
        if inputs_of(stage) & set(found):
            found.append(stage.id)
    return found


def test_another_comparison_finds_everything_and_takes_it_over(finished: Path) -> None:
    plan = read_plan(finished)
    other = finished.parent / "other"
    work = work_left(plan, other)
    assert not work.todo
    assert set(work.elsewhere) == {stage.id for stage in plan.stages}
    other.mkdir()
    for source in work.elsewhere.values():
        assert adopt(source, other)
    assert {standing(other / stage.id) for stage in plan.stages} == {"whole"}
    assert work_left(plan, other).num_done == len(plan.stages)
    assert (other / plan.stages[0].id / ADOPTED).is_file()
    evaluation = next(stage.id for stage in plan.stages if stage.kind == "evaluate")
    assert (finished / evaluation / ITEMS).samefile(other / evaluation / ITEMS)
    shutil.rmtree(finished)
    assert {standing(other / stage.id) for stage in plan.stages} == {"whole"}


def test_what_vanishes_while_it_is_taken_over_leaves_nothing_behind(finished: Path) -> None:
    other = finished.parent / "other"
    other.mkdir()
    assert not adopt(finished / "sft-000000000000", other)
    assert not list(other.iterdir())


def test_half_of_a_stage_is_never_taken_over(finished: Path) -> None:
    plan = read_plan(finished)
    sft = next(stage for stage in plan.stages if stage.kind == "sft")
    (finished / sft.id).rename(finished / f".partial-{sft.id}")
    work = work_left(plan, finished.parent / "other")
    assert [stage.id for stage in work.todo] == with_dependents(plan, sft.id)
    assert set(work.elsewhere) == {stage.id for stage in plan.stages} - {stage.id for stage in work.todo}


@pytest.mark.parametrize("kind", ["data", "pretrain", "sft", "dpo", "orpo", "evaluate"])
def test_a_deleted_stage_and_what_depends_on_it_run_again_and_nothing_else(finished: Path, kind: str) -> None:
    plan = read_plan(finished)
    deleted = next(stage for stage in plan.stages if stage.kind == kind)
    shutil.rmtree(finished / deleted.id)
    assert [stage.id for stage in work_left(plan, finished).todo] == with_dependents(plan, deleted.id)


def test_what_rests_on_a_deleted_stage_stays_to_be_made_when_only_that_one_came_back_before_a_kill(
    finished: Path,
) -> None:
    plan = read_plan(finished)
    data = next(stage for stage in plan.stages if stage.kind == "data")
    shutil.copytree(finished / data.id, finished.parent / "kept")
    shutil.rmtree(finished / data.id)
    work = work_left(plan, finished)
    assert work.outdated == set(with_dependents(plan, data.id)) - {data.id}
    mark_outdated(work, finished)
    # So that no other comparison takes them over.
    assert {standing(finished / stage_id) for stage_id in work.outdated} == {"absent"}
    (finished.parent / "kept").rename(finished / data.id)
    assert [stage.id for stage in work_left(plan, finished).todo] == with_dependents(plan, data.id)[1:]


def test_what_is_to_be_made_again_is_not_taken_from_another_comparison(finished: Path) -> None:
    plan = read_plan(finished)
    shutil.copytree(finished, finished.parent / "other")
    sft = next(stage for stage in plan.stages if stage.kind == "sft")
    kept = finished.parent / "kept"
    (finished.parent / "other" / sft.id).rename(kept)
    shutil.rmtree(finished / sft.id)
    mark_outdated(work_left(plan, finished), finished)
    kept.rename(finished / sft.id)  # made again, then the run was killed
    work = work_left(plan, finished)
    assert [stage.id for stage in work.todo] == with_dependents(plan, sft.id)[1:]
    assert not work.elsewhere


def test_weights_that_are_made_again_for_another_stage_outdate_nothing(finished: Path) -> None:
    plan = read_plan(finished)
    give_up_weights(finished, "sft")
    shutil.rmtree(next(finished.glob("dpo-*")))
    assert not {stage for stage in work_left(plan, finished).outdated if not stage.startswith("evaluate")}


def test_a_deleted_stage_that_another_comparison_has_is_taken_over_and_nothing_runs_again(
    finished: Path,
) -> None:
    plan = read_plan(finished)
    other = finished.parent / "other"
    shutil.copytree(finished, other)
    sft = next(stage.id for stage in plan.stages if stage.kind == "sft")
    shutil.rmtree(finished / sft)
    work = work_left(plan, finished)
    assert not work.todo
    assert work.elsewhere == {sft: other / sft}


def test_weights_that_were_given_up_make_nothing_run_again_by_themselves(finished: Path) -> None:
    plan = read_plan(finished)
    for kind in ("sft", "dpo", "orpo"):
        give_up_weights(finished, kind)
    assert not work_left(plan, finished).todo
    assert not work_left(plan, finished.parent / "other").todo


def test_a_stage_that_needs_weights_that_were_given_up_calls_for_them(finished: Path) -> None:
    plan = read_plan(finished)
    give_up_weights(finished, "sft")
    give_up_weights(finished, "dpo")
    trial = next(trial for trial in plan.trials if trial.name == "sft-dpo")
    shutil.rmtree(finished / trial.evaluations[0])
    todo = [stage.id for stage in work_left(plan, finished).todo]
    assert todo == [*trial.training, trial.evaluations[0]]


def test_weights_that_are_missing_without_a_word_are_made_again(finished: Path) -> None:
    plan = read_plan(finished)
    orpo = next(finished.glob("orpo-*"))
    shutil.rmtree(orpo / "model")
    assert [stage.id for stage in work_left(plan, finished).todo] == with_dependents(plan, orpo.name)


def stored_reference(parent: Path, *, weights_hash: str | None) -> Path:
    """A comparison with `reference: precomputed` of which DPO alone is left to run; SFT's own weights are `cd`."""
    dpo = {"trainer": "dpo", "reference": "precomputed"}
    run = Run(seeds=1, changes={"arms": {"sft-dpo": [{"trainer": "sft"}, dpo]}})
    folder = make_results(parent, run)
    for stage in read_plan(folder).stages:
        for product in ("model", "splits", "tokenizer", "logps"):
            (folder / stage.id / product).mkdir()
        if stage.kind == "dpo":
            shutil.rmtree(folder / stage.id)
        if stage.kind == "reference":
            made_of(folder / stage.id, weights_hash)
    return folder


def made_of(folder: Path, weights_hash: str | None) -> None:
    """The record says that the stage made, or was made from, other weights."""
    record = read_record(folder)
    assert record is not None
    assert record.outcome is not None
    outcome = record.outcome.model_copy(update={"weights_hash": weights_hash})
    write_record(folder, record.model_copy(update={"outcome": outcome}))


def one(plan: Plan, kind: str) -> str:
    (found,) = (stage.id for stage in plan.stages if stage.kind == kind)
    return found


@pytest.mark.parametrize("weights_hash", ["cd", None])
def test_log_probs_of_the_weights_that_are_taken_over_too_are_taken_over(
    tmp_path: Path, weights_hash: str | None
) -> None:
    plan = read_plan(finished := stored_reference(tmp_path, weights_hash=weights_hash))
    reference = one(plan, "reference")
    assert work_left(plan, tmp_path / "other").elsewhere[reference] == finished / reference
    assert left(plan, finished)["reference"] == 0


def test_log_probs_of_other_weights_are_never_taken_over_also_not_after_they_were_deleted(
    tmp_path: Path,
) -> None:
    plan = read_plan(finished := stored_reference(tmp_path, weights_hash="cd"))
    sft, reference = one(plan, "sft"), one(plan, "reference")
    other = tmp_path / "other"
    other.mkdir()
    for stage in (sft, reference):
        assert adopt(finished / stage, other)
    made_of(other / sft, "ef")  # trained again here, to other bits
    for _ in range(2):
        work = work_left(plan, other)
        assert reference in {stage.id for stage in work.todo}
        assert reference not in work.elsewhere
        shutil.rmtree(other / reference, ignore_errors=True)
    made_of(other / sft, "cd")
    assert work_left(plan, other).elsewhere[reference] == finished / reference


def test_log_probs_are_made_again_with_the_weights_that_they_are_of(tmp_path: Path) -> None:
    plan = read_plan(finished := stored_reference(tmp_path, weights_hash="cd"))
    shutil.rmtree(finished / one(plan, "sft"))
    assert left(plan, finished) >= Counter(["sft", "reference", "dpo"])
