"""Names of lm-eval's own tasks, known without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import task_names
from harness.task_names import unknown_task
from pipelines.evaluations import TASK_PRESETS


@pytest.mark.parametrize(
    "name", [*TASK_PRESETS["capabilities"], "arc_easy", "mmlu", "blimp", "leaderboard", "squadv2"]
)
def test_a_task_a_group_and_a_task_in_python_are_known(name: str) -> None:
    assert unknown_task(name) is None


def test_a_mistyped_task_is_told_with_what_comes_near() -> None:
    assert unknown_task("gsm8q") == "is none of lm-eval's tasks. Did you mean 'gsm8k'?"
    assert unknown_task("qqqqqqqqqq") == "is none of lm-eval's tasks."


@pytest.mark.parametrize(
    "text",
    [
        "task: mine",
        'task: "mine"  # ours',
        "group: mine\r\ntask: [a]",
        "tag:\n  - other\n  - mine",
        "task:\n  - task: mine\n    limit: 3",
    ],
)
def test_every_way_to_write_a_name_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "any.yaml").write_text(f"dataset_path: json\n{text}\n", newline="")
    monkeypatch.setattr(task_names, "_folder", lambda: tmp_path)
    assert unknown_task("mine") is None
    assert unknown_task("mine2") is not None


def test_nothing_is_said_where_lm_eval_is_not_installed_or_the_name_is_a_pattern(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert unknown_task("mmlu_*") is None
    monkeypatch.setattr(task_names, "_folder", lambda: None)
    assert unknown_task("gsm8q") is None


def test_looking_imports_neither_torch_nor_lm_eval() -> None:
    code = (
        "import sys; from harness.task_names import unknown_task; unknown_task('gsm8k'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lm_eval', 'datasets', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_every_task_that_lm_eval_lists_is_known() -> None:
    from lm_eval.tasks import TaskManager

    folder = task_names._folder()
    assert folder is not None
    known = set[str]().union(*map(task_names.names_in, task_names.files_likely_first(folder, "gsm8k")))
    assert set(TaskManager().all_tasks) <= known
