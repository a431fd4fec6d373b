"""The commit behind a record: of this code alone, whatever else a repository holds."""

import subprocess
from pathlib import Path

import pytest

from harness.machine import commit_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("harness/code.py", "pipelines/code.py", "results/record.json"):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_text("first")
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


def test_rewritten_results_leave_the_commit_clean(repository: Path) -> None:
    (repository / "results" / "record.json").write_text("rewritten by a run")

    assert not str(commit_of(repository / "harness")).endswith("-dirty")


@pytest.mark.parametrize("package", ["harness", "pipelines"])
def test_changed_code_marks_the_commit(repository: Path, package: str) -> None:
    (repository / package / "code.py").write_text("changed")

    assert str(commit_of(repository / "harness")).endswith("-dirty")


def test_a_package_that_the_repository_does_not_track_has_no_commit(repository: Path) -> None:
    (repository / "site-packages").mkdir()

    assert commit_of(repository / "site-packages") is None


def test_no_repository_is_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
