"""`prefduel gc`: only what no comparison refers to, checkpoints first, after asking."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.garbage import find_garbage
from harness.integrity import standing
from harness.lock import run_lock
from harness.plan import COMPARISON, Plan, read_plan
from harness.records import write_json
from harness.reuse import work_left
from tests.harness.fixtures_results import Run, make_results

OLD = "orpo-00000000000a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished comparison with one stage that an earlier plan had, and its checkpoints."""
    made = make_results(tmp_path, Run(seeds=1))
    for stage in read_plan(made).stages:
        for product in ("model", "splits", "tokenizer"):
            (made / stage.id / product).mkdir()
    shutil.copytree(next(made.glob("orpo-*")), made / OLD)
    (made / OLD / "checkpoints").mkdir()
    (made / OLD / "checkpoints" / "optimizer.pt").write_bytes(b"x" * 1000)
    return made


def names(folder: Path) -> list[str]:
    return [str(piece.path.relative_to(folder)) for piece in find_garbage(folder)]


def test_what_no_plan_refers_to_is_found_checkpoints_first(folder: Path) -> None:
    assert names(folder) == [f"{OLD}/checkpoints", OLD]
    assert find_garbage(folder)[0].num_bytes == 1000


def test_what_a_comparison_beside_it_refers_to_is_kept(folder: Path) -> None:
    beside = folder.parent / "beside"
    beside.mkdir()
    plan = read_plan(folder)
    old = next(stage for stage in plan.stages if stage.kind == "orpo").model_copy(update={"id": OLD})
    other = plan.model_copy(update={"stages": [old]})
    write_json(beside / COMPARISON, other.model_dump(mode="json", by_alias=True))
    assert names(folder) == [f"{OLD}/checkpoints"]  # of a stage that is done


def test_checkpoints_that_a_stage_goes_on_from_are_kept_and_halves_go(folder: Path) -> None:
    shutil.rmtree(folder / OLD)
    orpo = next(folder.glob("orpo-*"))
    orpo.rename(folder / f".partial-{orpo.name}")
    (folder / f".partial-{orpo.name}" / "checkpoints").mkdir()
    (folder / ".partial-sft-00000000000b").mkdir()
    (folder / ".adopting-sft-00000000000c").mkdir()
    assert names(folder) == [".adopting-sft-00000000000c", ".partial-sft-00000000000b"]


def test_a_leftover_with_checkpoints_is_listed_and_counted_once(folder: Path) -> None:
    left = folder / ".partial-sft-00000000000b"
    (left / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (left / "checkpoints" / "checkpoint-3" / "optimizer.pt").write_bytes(b"x" * 500)
    (left / "log.txt").write_bytes(b"x" * 7)
    old = sum(path.stat().st_size for path in (folder / OLD).iterdir() if path.is_file())
    assert [(str(piece.path.relative_to(folder)), piece.num_bytes) for piece in find_garbage(folder)] == [
        (f"{left.name}/checkpoints", 500),
        (f"{OLD}/checkpoints", 1000),
        (left.name, 7),
        (OLD, old),
    ]
    assert main(["gc", str(folder), "--yes"]) == 0
    assert not left.exists()


def test_weights_that_the_config_does_not_keep_go_and_their_stages_stay_done(tmp_path: Path) -> None:
    made = make_results(tmp_path, Run(seeds=1, changes={"keep_weights": "final"}))
    plan: Plan = read_plan(made)
    for stage in plan.stages:
        for product in ("model", "splits", "tokenizer"):
            (made / stage.id / product).mkdir()
    assert main(["gc", str(made), "--yes"]) == 0
    sft = next(stage.id for stage in plan.stages if stage.kind == "sft")
    assert standing(made / sft) == "light"
    assert not work_left(plan, made).todo


def test_nothing_is_removed_without_a_yes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", str(folder)]) == 0
    assert "nothing was removed: --yes removes them" in capsys.readouterr().out
    assert (folder / OLD).is_dir()
    assert main(["gc", str(folder), "--yes"]) == 0
    assert not (folder / OLD).exists()
    assert main(["gc", str(folder)]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_folder_in_which_a_run_works_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_lock(folder):
        assert main(["gc", str(folder), "--yes"]) == 2
    assert "another run is working" in capsys.readouterr().err
    assert (folder / OLD).is_dir()


def test_a_folder_that_no_run_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    assert main(["gc", str(tmp_path / "precious"), "--yes"]) == 2
    assert (tmp_path / "precious").is_dir()


def test_a_plan_that_is_not_text_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside it as well: what it refers to is not known."""
    beside = folder.parent / "beside"
    beside.mkdir()
    (beside / COMPARISON).write_bytes(b"\xff\xfe")
    assert main(["gc", str(folder), "--yes"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"beside/{COMPARISON}: does not have the form of this version" in line
    assert (folder / OLD).is_dir()
