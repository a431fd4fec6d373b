"""The commit behind a record: of this code alone, whatever else a repository holds."""

import platform
import subprocess
from pathlib import Path

import pytest

from harness.machine import _processor, commit_of


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


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [
        (
            "processor : 0\ncpu family : 25\nmodel : 17\nmodel name : AMD EPYC\nflags : fpu avx2 avx512f\n\n"
            "processor : 1\ncpu family : 6\nmodel name : another\n",
            "AMD EPYC (family 25, model 17, AVX-512)",
        ),
        (
            "cpu family : 23\nmodel : 49\nmodel name : AMD EPYC\nflags : fpu avx avx2\n",
            "AMD EPYC (family 23, model 49, AVX2)",
        ),
        (
            "CPU implementer : 0x41\nCPU part : 0xd40\n",
            f"{platform.processor() or platform.machine()} (part 0xd40)",
        ),
        ("", platform.processor() or platform.machine()),
    ],
    ids=["first of two", "another generation of the same name", "arm", "nothing said"],
)
def test_processors_of_one_name_but_other_kernels_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, processor: str
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr("harness.machine.CPUINFO", tmp_path / "cpuinfo")

    assert _processor() == processor


def test_no_file_of_the_processor_leaves_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.machine.CPUINFO", tmp_path / "none")

    assert _processor() == (platform.processor() or platform.machine())
