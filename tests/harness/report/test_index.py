"""The index: every report of the folder, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.report import write_report
from harness.report.html import render_html
from harness.report.index import index_page
from harness.report.markdown import render_markdown
from harness.report.page import Link, Page, Paragraph, Section
from tests.harness.fixtures_results import Run, make_results
from tests.harness.hostile_texts import PAYLOADS
from tests.harness.report.html_pages import Document


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of two comparisons: one of five seeds, and one that failed."""
    parent = tmp_path_factory.mktemp("index")
    make_results(parent / "a", Run(seeds=5))
    failed = {("orpo", seed): ("killed", "gone") for seed in range(2)}
    run = Run(seeds=2, failed=failed, changes={"name": "other", "price_per_hour": 2})  # type: ignore[arg-type]
    make_results(parent / "b", run)
    folders = [str(parent / "a" / "made-up"), str(parent / "b" / "made-up")]
    assert main(["report", *folders, "--reports", str(parent / "reports")]) == 0
    return parent / "reports"


def test_every_comparison_has_a_row_that_leads_to_its_page(reports: Path) -> None:
    text = (reports / "index.md").read_text()
    (first,) = [line for line in text.splitlines() if "[made-up](made-up.md)" in line]
    assert [cell.strip() for cell in first.split("|")][2:10] == [
        "toy", "toy", "undecided", "gold_score", "+0.015 (-0.001 to +0.031)", "5", "0.543 (0.533 to 0.554) training time",
        "2026-11-24 01:00",
    ]  # fmt: skip
    (second,) = [line for line in text.splitlines() if "[other](other.md)" in line]
    assert "incomplete" in second
    assert second.count("not measured") == 2


def test_the_html_leads_to_html_and_can_be_sorted(reports: Path) -> None:
    document = Document((reports / "index.html").read_text())
    links = [attributes["href"] for tag, attributes in document.elements if tag == "a"]
    assert links == ["made-up.html", "other.html"]
    assert ("table", {"class": "sortable"}) in document.elements
    assert len(document.scripts) == 1


def test_the_index_needs_the_reports_alone_and_its_order_is_theirs(reports: Path, tmp_path: Path) -> None:
    shutil.copytree(reports, tmp_path / "reports")
    assert index_page(tmp_path / "reports") == index_page(reports)
    shutil.rmtree(tmp_path / "reports" / "other")
    assert len(index_page(tmp_path / "reports").sections[0].blocks) == 2
    assert "other" not in str(index_page(tmp_path / "reports"))


def test_a_hostile_name_of_model_and_data_stays_text(tmp_path: Path) -> None:
    hostile = "x/" + PAYLOADS[0] + PAYLOADS[7] + PAYLOADS[13] + PAYLOADS[30]
    write_report(make_results(tmp_path), tmp_path / "reports")
    entry = tmp_path / "reports" / "made-up" / "entry.json"
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"model": hostile, "data": hostile}))
    from harness.report.write import write_page

    write_page(index_page(tmp_path / "reports"), tmp_path / "reports")
    document = Document((tmp_path / "reports" / "index.html").read_text())
    assert document.loads() == ["<a href=made-up.html>"]
    assert "<script>alert" not in (tmp_path / "reports" / "index.html").read_text()
    assert "\x1b" not in (tmp_path / "reports" / "index.md").read_text()


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b"not JSON"])
def test_a_damaged_entry_is_named_and_takes_no_other_report_away(
    reports: Path, tmp_path: Path, content: bytes
) -> None:
    text = with_entry(reports, tmp_path / "reports", content)
    assert "prefduel report results/added" in text
    assert "[made-up]" in text


@pytest.mark.parametrize("low", ["NaN", "1e999"])
def test_an_entry_whose_interval_is_not_finite_is_damaged(reports: Path, tmp_path: Path, low: str) -> None:
    entry = (reports / "made-up" / "entry.json").read_text().replace("made-up", "added")
    changed = re.sub(r'"low": [^,]+', f'"low": {low}', entry, count=1)
    assert "prefduel report results/added" not in with_entry(reports, tmp_path / "sound", entry.encode())
    assert "prefduel report results/added" in with_entry(reports, tmp_path / "reports", changed.encode())


@pytest.mark.parametrize("name", ['../../etc"><img src=x>', "other", "", "a" * 65, "a/b"])
def test_an_entry_that_is_not_its_folders_is_damaged_and_its_name_stands_nowhere(
    reports: Path, tmp_path: Path, name: str
) -> None:
    entry = json.loads((reports / "made-up" / "entry.json").read_text()) | {"comparison": name}
    text = with_entry(reports, tmp_path / "reports", json.dumps(entry).encode())
    assert "prefduel report results/added" in text
    assert text.count("](") == 2
    assert "img" not in text


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_an_entry_whose_page_was_deleted_is_left_out(reports: Path, tmp_path: Path, suffix: str) -> None:
    shutil.copytree(reports, tmp_path / "reports")
    (tmp_path / "reports" / f"other{suffix}").unlink()
    text = render_markdown(index_page(tmp_path / "reports"))
    assert "[made-up](made-up.md)" in text
    assert "other" not in text


def with_entry(reports: Path, copy: Path, content: bytes) -> str:
    """The index of a copy of the reports to which `added` was added, a page with this entry."""
    shutil.copytree(reports, copy)
    (copy / "added").mkdir()
    (copy / "added" / "entry.json").write_bytes(content)
    for suffix in (".md", ".html"):
        (copy / f"added{suffix}").touch()
    return render_markdown(index_page(copy))


def test_a_links_target_stays_one_whatever_its_name() -> None:
    page = Page("index", "x", [], [Section("x", [Paragraph(Link("a", '../b c)"><img src=x>'))])])
    assert "[a](..%2Fb%20c%29%22%3E%3Cimg%20src%3Dx%3E.md)" in render_markdown(page)
    links = [attributes["href"] for tag, attributes in Document(render_html(page)).elements if tag == "a"]
    assert links == ["..%2Fb%20c%29%22%3E%3Cimg%20src%3Dx%3E.html"]


def test_two_folders_of_one_name_are_refused_before_one_replaces_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(make_results(tmp_path / place, Run(seeds=2))) for place in ("a", "b")]
    assert main(["report", *folders, "--reports", str(tmp_path / "reports")]) == 2
    assert "must not have the name of" in capsys.readouterr().err
    assert not (tmp_path / "reports").exists()
    assert main(["report", folders[0], folders[0], "--reports", str(tmp_path / "reports")]) == 0
