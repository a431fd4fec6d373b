"""Finished stages serve every comparison of a results folder; stages without weights run again only when needed."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from harness.integrity import GIVEN_UP, standing
from harness.plan import Plan, read_plan
from harness.records import ITEMS
from harness.reuse import ADOPTED, adopt, work_left
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
    assert [stage.id for stage in work_left(plan, finished.parent / "other").todo] == [sft.id]


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
    shutil.rmtree(next(finished.glob("orpo-*")) / "model")
    assert left(plan, finished) == {"orpo": 1}
