"""A report that is written anew and stops in the middle: every file is the old one or the new one, and no figure of a page is missing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.report import write_report
from tests.harness.fixtures_results import Run, make_results

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results, and others of the same name with fewer figures."""
    more = make_results(tmp_path_factory.mktemp("more"), Run())
    less = make_results(tmp_path_factory.mktemp("less"), Run(groups=("generation",), arms=["orpo"]))
    return more, less


def report(results: Path, reports: Path) -> Files:
    write_report(results, reports)
    return contents(reports)


def contents(reports: Path) -> Files:
    return {
        str(path.relative_to(reports)): path.read_bytes() for path in reports.rglob("*") if path.is_file()
    }


def test_a_full_disk_at_any_moment_leaves_whole_files_and_every_figure_that_a_page_names(
    versions: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, less = versions
    old, new = report(more, tmp_path / "old"), report(less, tmp_path / "new")
    assert set(new) < set(old)
    write_bytes, moment = Path.write_bytes, -1
    while True:
        moment += 2
        left, reports = moment, tmp_path / f"stopped-{moment}"
        shutil.copytree(tmp_path / "old", reports)

        def write(path: Path, content: bytes) -> int:
            nonlocal left
            left -= 1
            if left == 0:
                write_bytes(path, content[: len(content) // 2])
                raise OSError(28, "No space left on device")
            return write_bytes(path, content)

        with monkeypatch.context() as full:
            full.setattr(Path, "write_bytes", write)
            try:
                write_report(less, reports)
            except OSError as error:
                assert error.errno == 28  # noqa: PT017
        found = contents(reports)
        assert all(content in (old.get(name), new.get(name)) for name, content in found.items())
        figures = re.findall(r"\((made-up/[\w-]+\.svg)\)", found["made-up.md"].decode())
        assert figures
        assert set(figures) <= set(found)
        if left > 0:
            break
    assert moment > len(new) - 1
    assert found == new
