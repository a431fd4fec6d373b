"""Local benchmark tasks seen from the planner: names, files, content."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.benchmark_tasks import (
    DATA_FOLDER_VARIABLE,
    benchmark_name,
    content_hash,
    missing_files,
    named_twice,
    task_files,
)
from harness.errors import UserError

BLIMP = Path(__file__).parents[2] / "configs" / "tasks" / "blimp.yaml"
TASK = """
include: _shared.yaml
task: {name}
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
process_results: !function scoring.results
"""


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_FOLDER_VARIABLE, raising=False)


def write_task(folder: Path, name: str = "mine") -> Path:
    (folder / "_shared.yaml").write_text("dataset_path: json\ntask: overridden\n")
    (folder / "scoring.py").write_text("def results(doc, results): return {}\n")
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    (folder / f"{name}.txt").write_text("read by a function\n")
    path = folder / f"{name}.yaml"
    path.write_text(TASK.format(name=name))
    return path


def test_a_path_is_called_by_the_name_inside_the_file_and_a_name_by_itself(tmp_path: Path) -> None:
    assert benchmark_name(str(write_task(tmp_path))) == "mine"
    assert benchmark_name("hellaswag") == "hellaswag"


def test_includes_functions_and_data_are_all_files_of_the_task(tmp_path: Path) -> None:
    files = task_files([str(write_task(tmp_path)), "hellaswag"])
    assert [file.name for file in files] == [
        "mine.yaml",
        "scoring.py",
        "mine.txt",
        "_shared.yaml",
        "rows.jsonl",
    ]
    assert missing_files([str(tmp_path / "mine.yaml")]) == []


@pytest.mark.parametrize("changed", ["mine.yaml", "_shared.yaml", "scoring.py", "rows.jsonl", "mine.txt"])
def test_the_content_hash_changes_with_every_file_of_the_task(tmp_path: Path, changed: str) -> None:
    task = str(write_task(tmp_path))
    before = content_hash([task])
    assert content_hash([task]) == before
    with (tmp_path / changed).open("a") as file:
        file.write("\n# more\n" if changed != "rows.jsonl" else '{"a": 2}\n')
    assert content_hash([task]) != before


def test_the_content_hash_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    assert content_hash([str(write_task(tmp_path / "here"))]) == content_hash(
        [str(write_task(tmp_path / "there"))]
    )


def test_members_of_a_local_group_are_found_beside_it(tmp_path: Path) -> None:
    write_task(tmp_path, "one")
    write_task(tmp_path, "two")
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask: [one, two, hellaswag]\n")
    assert benchmark_name(str(group)) == "both"
    assert {"one.yaml", "two.yaml", "rows.jsonl"} < {file.name for file in task_files([str(group)])}


def test_folders_that_are_called_like_a_task_file_are_none_of_a_groups_or_tasks_files(tmp_path: Path) -> None:
    write_task(tmp_path, "one")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "one.d").mkdir()
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask: [one]\n")
    assert missing_files([str(group)]) == []


@pytest.mark.parametrize("name", ["**", "a[b", "a?"])
def test_a_task_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "ab.txt").write_text("another task's\n")
    task = write_task(tmp_path, name)
    task.write_text(TASK.format(name="mine"))
    assert [file.name for file in task_files([str(task)]) if file.suffix == ".txt"] == [f"{name}.txt"]


def test_a_name_that_comes_twice_is_found_by_itself_and_within_a_group(tmp_path: Path) -> None:
    one, two = str(write_task(tmp_path, "one")), str(write_task(tmp_path, "two"))
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask: [one, {task: hellaswag}]\n")
    assert named_twice([one, two, "arc_easy"]) is None
    assert named_twice([str(group), two, "arc_easy"]) is None
    assert named_twice([str(group), two, "hellaswag"]) == "hellaswag"
    assert named_twice([str(group), one]) == "one"
    assert named_twice([str(group), "both"]) == "both"
    assert named_twice([one, one]) == "one"


def test_a_data_file_is_looked_for_beside_the_task_then_here_then_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(here)
    task = tmp_path / "blimp.yaml"
    task.write_text(BLIMP.read_text())
    assert missing_files([str(task)]) == [tmp_path / "blimp_sample.jsonl"]
    places = [elsewhere, here, tmp_path]
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(elsewhere))
    for place in places:
        (place / "blimp_sample.jsonl").write_text("{}\n")
        assert missing_files([str(task)]) == []
        assert task_files([str(task)])[-1].resolve() == place / "blimp_sample.jsonl"


def test_files_of_a_hub_dataset_are_not_looked_for_on_this_machine(tmp_path: Path) -> None:
    task = tmp_path / "hub.yaml"
    task.write_text("task: hub\ndataset_path: owner/name\ndataset_kwargs: {data_files: a.jsonl}\n")
    assert task_files([str(task)]) == [task]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such task file"),
        ("- a\n", "is a YAML mapping, found list"),
        ("task: [\n", "not readable as YAML"),
        ("dataset_path: json\n", "needs the key `task`"),
        ("include: gone.yaml\ntask: a\n", "gone.yaml: no such task file"),
        ("include: bad.yaml\ntask: a\n", "bad.yaml: includes itself"),
        ("include: .\ntask: a\n", "not readable as YAML: .* directory"),
        ('include: "a\\0b"\ntask: a\n', "not readable as YAML: embedded null byte"),
        ("task: a\nmade: 2020-99-99\n", "not readable as YAML: month must be in"),
        ("task: a\nx: !function {a: 1}\n", "!function must be followed by the name of a function"),
        (
            "include: 5\ntask: a\n",
            r"bad.yaml: include must be the name of a file, or a list of them, got 5\.",
        ),
        (
            "include: [a, [b]]\ntask: a\n",
            r"include must be the name of a file, or a list of them, got \['a', \[",
        ),
        ("1: a\nb: c\n", r"needs the key `task` .* it has \['1', 'b'\]"),
        ("task: [x, y]\n", r"bad.yaml: task must be a name on one line, .* got \['x', 'y'\]"),
        ("task: {a: b}\n", r"task must be a name on one line, .* got \{'a': 'b'\}"),
        ("task:\n", "task must be a name on one line, .* got None"),
        ("task: !function a.b\n", "task must be a name on one line, .* got 'a.b'"),
        ('task: "a\\nb"\n', "task must be a name on one line, .* got 'a.nb'"),
        ('task: "a\\ud83d"\n', "task must be a name on one line, .* got 'a.ud83d'"),
        ("group: [g]\ntask: [t]\n", r"group must be a name on one line, .* got \['g'\]"),
        ("group: g\n", "task must be a list of task names, .* got None"),
        ("group: g\ntask: t\n", "task must be a list of task names, .* got 't'"),
        ("group: g\ntask: [t, {x: 1}]\n", "task must be a list of task names, .* got .*'x': 1"),
        ("task: a\ndataset_path: [1]\n", r"dataset_path must be text, got \[1\]"),
        (
            "task: a\ndataset_path: json\ndataset_kwargs: [1]\n",
            r"dataset_kwargs must be a mapping, got \[1\]",
        ),
        (
            "task: a\ndataset_path: json\ndataset_kwargs: {data_files: {test: 5}}\n",
            "dataset_kwargs.data_files must be a file name, .* got .'test': 5",
        ),
    ],
)
def test_a_file_that_is_no_task_is_one_line_that_names_it(
    tmp_path: Path, text: str | None, message: str
) -> None:
    task = tmp_path / "bad.yaml"
    if text is not None:
        task.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        content_hash([str(task)])
    assert "\n" not in str(caught.value)


def test_the_planner_side_loads_neither_torch_nor_lm_eval() -> None:
    code = (
        "import sys, harness.benchmark_tasks as b; b.content_hash([sys.argv[1]]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lm_eval', 'datasets', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(BLIMP)], check=False).returncode == 0
