"""A finished stage counts only while its files say what its record says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.declared import declare, read_declarations
from harness.disk import bytes_needed
from harness.errors import UserError
from harness.integrity import hashes_of_files, standing
from harness.plan import read_plan
from harness.records import ITEMS, LOSSES, RECORD, REPLIES, WEIGHTS_BY_LAYER, read_record, write_record
from harness.results import read_results
from harness.reuse import work_left
from harness.rows import PAIRS
from tests.harness.fixtures_results import Run, make_results


def evaluation(folder: Path) -> Path:
    return next(path for path in sorted(folder.glob("evaluate-*")) if (path / ITEMS).is_file())


def change_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(change_lines(lambda lines: lines[:-1]), id="a line less"),
        pytest.param(change_lines(lambda lines: [*lines, lines[0]]), id="a line twice"),
        pytest.param(change_lines(lambda lines: [lines[0][:-5], *lines[1:]]), id="a broken line"),
        pytest.param(change_lines(lambda _: []), id="empty"),
        pytest.param(Path.unlink, id="gone"),
    ],
)
def test_changed_items_are_not_judged_and_are_measured_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = make_results(tmp_path, Run())
    stage = evaluation(folder)
    assert standing(stage) == "whole"
    damage(stage / ITEMS)
    assert standing(stage) == "absent"
    with pytest.raises(UserError, match=rf"{ITEMS}: .*Delete the folder {stage.name} and run again"):
        read_results(folder)


def test_another_value_with_the_same_number_of_items_is_noticed(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run())
    items = evaluation(folder) / ITEMS
    first, *others = items.read_text().splitlines()
    name = next(part.split('"')[1] for part in first.split(",")[1:])
    value = first.split(f'"{name}": ')[1].split(",")[0].rstrip("}")
    items.write_text("\n".join([first.replace(f'"{name}": {value}', f'"{name}": NaN'), *others]) + "\n")
    assert standing(items.parent) == "absent"


@pytest.mark.parametrize(
    ("value", "mean", "found"),
    [
        ("Infinity", "Infinity", "inf"),
        ("NaN", "NaN", "nan"),
        ("1e308", "1e307", "1e+308"),
        ("1" + "0" * 400, "1e307", "a whole number with more digits"),
    ],
    ids=["infinity", "not a number", "too large", "400 digits"],
)
def test_a_score_that_no_stage_writes_is_told_with_its_file_and_item(
    tmp_path: Path, value: str, mean: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path, Run())
    stage = next(
        path for path in sorted(folder.glob("evaluate-*")) if "gold_score" in (path / ITEMS).read_text()
    )
    for file, key, text in ((ITEMS, "gold_score", value), (RECORD, "gold_score", mean)):
        lines = (stage / file).read_text()
        (stage / file).write_text(re.sub(rf'"{key}": 0\.[0-9]+', f'"{key}": {text}', lines, count=1))
    assert main(["report", str(folder), "--reports", str(tmp_path / "reports")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{stage.name}/{ITEMS}: gold_score of item item-0000 must be a finite number" in line
    assert f"got {found}. Delete the folder {stage.name} and run again." in line


@pytest.mark.parametrize("kind", ["data", "orpo", "evaluate"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1}', b"\xff\xfe", None])
def test_a_damaged_record_is_a_stage_to_run_again(tmp_path: Path, content: bytes | None, kind: str) -> None:
    """None: a folder stands in its place."""
    folder = make_results(tmp_path, Run())
    plan, stage = read_plan(folder), next(folder.glob(f"{kind}-*"))
    (stage / RECORD).unlink()
    if content is None:
        (stage / RECORD).mkdir()
    else:
        (stage / RECORD).write_bytes(content)
    assert standing(stage) == "absent"
    assert stage.name in [one.id for one in work_left(plan, folder).todo]
    declare(folder, plan, {})
    finished = sum(one.kind == "evaluate" for one in plan.stages)
    assert read_declarations(folder)[-1].num_measured == finished - (kind == "evaluate")
    bytes_needed(plan, plan.stages, folder)
    with pytest.raises(
        UserError, match=rf"{stage.name}/{RECORD}: .*\. Delete the folder {stage.name} and run"
    ):
        read_results(folder)


@pytest.fixture
def hashed(tmp_path: Path) -> Path:
    """Results as stages leave them: each record has the hashes of the files of rows."""
    folder = make_results(tmp_path, Run(groups=("preference", "generation", "drift")))
    (next(folder.glob("data-*")) / PAIRS).touch()
    for stage in read_plan(folder).stages:
        record = read_record(folder / stage.id)
        assert record is not None
        write_record(
            folder / stage.id,
            record.model_copy(update={"files": hashes_of_files(folder / stage.id, "evaluate")}),
        )
    return folder


def test_what_stages_left_is_read(hashed: Path) -> None:
    assert len(read_results(hashed).items) == len(read_plan(hashed).stages)


@pytest.mark.parametrize("name", [LOSSES, REPLIES, ITEMS, WEIGHTS_BY_LAYER, PAIRS])
@pytest.mark.parametrize("change", ["cut", "add", "remove"])
def test_a_file_of_rows_that_is_not_what_its_stage_left_is_refused_and_made_again(
    hashed: Path, name: str, change: str
) -> None:
    """Each line of it may be sound."""
    path = sorted(hashed.glob(f"*/{name}"))[0]
    lines = path.read_text().splitlines(keepends=True)
    if change == "remove":
        path.unlink()
    else:
        path.write_text("".join(lines[:-1] if change == "cut" and lines else [*lines, *lines[:1], "\n"]))
    stage = path.parent
    with pytest.raises(
        UserError, match=rf"{stage.name}/{name}.*\. Delete the folder {stage.name} and run again\."
    ):
        read_results(hashed)
    assert standing(stage) == "absent"


def a_file(stage: Path) -> None:
    stage.touch()


def a_dead_link(stage: Path) -> None:
    stage.symlink_to(stage.parent / "an-unmounted-disk")


@pytest.mark.parametrize(
    ("put", "said"), [(a_file, "must be a folder, is none"), (a_dead_link, "is a link that leads nowhere")]
)
def test_what_stands_in_the_place_of_a_stages_folder_is_refused_by_reports_and_before_a_run(
    tmp_path: Path, put: Callable[[Path], None], said: str
) -> None:
    folder = make_results(tmp_path, Run())
    plan, stage = read_plan(folder), evaluation(folder)
    shutil.rmtree(stage)
    put(stage)
    with pytest.raises(UserError, match=f"{stage.name}: {said}"):
        read_results(folder)
    with pytest.raises(UserError, match=f"{stage.name}: {said}"):
        work_left(plan, folder)


@pytest.mark.parametrize(
    "name", ["comparison.json", "decisions.jsonl", "orpo-*/record.json", "evaluate-*/replies.jsonl"]
)
def test_a_file_that_is_no_text_is_named_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path, Run())
    (folder / "decisions.jsonl").touch()
    for path in folder.glob(name):
        path.write_bytes(b"\xff\xfe\n")
    assert main(["report", str(folder), "--reports", str(tmp_path / "reports")]) == 2
    shown = capsys.readouterr().err
    assert (shown.count("\n"), Path(name).name in shown) == (1, True), shown


@pytest.mark.parametrize("name", [LOSSES, REPLIES])
@pytest.mark.parametrize("row", ["{}", "[]", "7", "{"])
def test_a_row_that_lacks_what_a_report_reads_is_one_line(
    tmp_path: Path, name: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_results(tmp_path, Run())
    for file in folder.glob(f"*/{name}"):
        file.write_text(row + "\n")
    assert main(["report", str(folder), "--reports", str(tmp_path / "reports")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: line 1" in line
    assert "run again" in line
