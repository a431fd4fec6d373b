"""Writes `reports/NAME.md`, `reports/NAME.html` and their figures from a results folder alone: same results, same bytes."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from pathlib import Path

from harness.helpers import Helpers, helpers_for
from harness.recommendation import verdict_lines
from harness.report.audit import audit_section
from harness.report.bill import bill_section
from harness.report.claims import claims_section
from harness.report.data import data_section, failures_section
from harness.report.differences import differences_section
from harness.report.drawing import drawn, prepare_drawing
from harness.report.environment import environment_section, files_section, reproduce_section, words_section
from harness.report.html import render_html
from harness.report.index import index_page, write_entry
from harness.report.learning import learning_section
from harness.report.markdown import render_markdown
from harness.report.opening import quality_cost_section, verdict_section
from harness.report.page import Drawn, Page, Section
from harness.report.quality import lost_section, quality_section
from harness.report.replies import replies_section
from harness.report.settings import settings_section
from harness.report.sweep import sweep_section
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary

FIGURE_SUFFIXES = (".svg", ".png")


def write_report(folder: Path, reports: Path, *, with_host: bool = False) -> Path:
    """Write the report of one comparison.

    Args:
        folder: The results folder; it is only read.
        reports: Gets `NAME.md`, `NAME.html` and the folder `NAME` with the figures; its index is made anew.
        with_host: Leave absolute paths and names of hosts in it.

    Returns:
        The Markdown page.

    Raises:
        UserError: `folder` is not a results folder, or a file in it is damaged.
    """
    with helpers_for(folder) as helpers:
        view = _read(folder, helpers, with_host=with_host)
        page = make_page(view)
        drawings = drawn(page.figures(), helpers)
    figures = reports / page.name
    figures.mkdir(parents=True, exist_ok=True)
    files = {
        f"{stem}.{suffix}": content
        for stem, drawing in drawings.items()
        for suffix, content in (("svg", drawing.svg), ("png", drawing.png))
    }
    for name, content in files.items():
        _replace(figures / name, content)
    write_page(page, reports, drawings)
    write_entry(view, figures)
    write_page(index_page(reports), reports)
    for old in figures.iterdir():  # last: until now a page may have named it
        if old.suffix in FIGURE_SUFFIXES and old.name not in files:
            old.unlink()
    return reports / f"{page.name}.md"


def _read(folder: Path, helpers: Helpers, *, with_host: bool) -> View:
    gc.disable()  # what is read lives until the end: no need to look through it again at each collection
    try:
        results = read_results(folder, helpers)
        prepare_drawing(helpers)
        return View(results, make_summary(results), with_host=with_host)
    finally:
        gc.freeze()
        gc.enable()


def write_page(page: Page, folder: Path, drawings: Mapping[str, Drawn] | None = None) -> None:
    """Write a page in both formats, with the drawings of its figures by their stems."""
    for suffix, text in ((".md", render_markdown(page)), (".html", render_html(page, drawings))):
        _replace(folder / f"{page.name}{suffix}", text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, also where this process is killed or the disk is full."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two reports may share an index
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def make_page(view: View) -> Page:
    """The whole report, before it is formatted."""
    first, second = view.summary.verdict.compare
    lines = [line.partition(": ") for line in verdict_lines(view.summary)]
    return Page(
        name=view.name,
        title=f"{view.name}: {first} against {second}",
        lines=[(label, view.shown(text)) for label, _, text in lines],
        sections=[section for section in _sections(view) if section is not None],
    )


def _sections(view: View) -> list[Section | None]:
    return [
        quality_cost_section(view),
        verdict_section(view),
        bill_section(view),
        differences_section(view),
        quality_section(view),
        lost_section(view),
        learning_section(view),
        sweep_section(view),
        replies_section(view),
        claims_section(view),
        audit_section(view),
        data_section(view),
        failures_section(view),
        settings_section(view),
        environment_section(view),
        files_section(view),
        reproduce_section(view),
        words_section(),
    ]
