"""`reports/index.md` and `.html`: every comparison that has a report in the folder, one row each."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.config import Name
from harness.numbers import interval, ratio_with_interval, with_interval
from harness.records import finite, write_json
from harness.report.page import Bullets, Code, Link, Page, Paragraph, Section, Table, Text
from harness.report.view import View
from harness.sentences import cost_words
from harness.summary_schema import VerdictSummary
from pipelines.stages import Strict

INDEX, ENTRY = "index", "entry.json"


class Entry(Strict):
    """What the index says of one comparison; kept beside its figures, so that the index needs no results folder."""

    comparison: Name
    model: str
    data: str
    last_stage: str = Field(description="When the last stage started, UTC; empty if none did.")
    verdict: VerdictSummary


def write_entry(view: View, folder: Path) -> None:
    """Write a comparison's row of the index into the folder of its figures."""
    comparison = view.results.plan.comparison
    entry = Entry(
        comparison=view.name,
        model=view.shown(comparison.model.name),
        data=view.shown(comparison.data.path),
        last_stage=max((record.started_at for record in view.results.records.values()), default=""),
        verdict=view.summary.verdict,
    )
    write_json(folder / ENTRY, entry.model_dump(mode="json"))


def index_page(reports: Path) -> Page:
    """The index of a folder of reports, the latest comparison first.

    An entry whose page was deleted is left out; one that cannot be read is named beneath.
    """
    paths = sorted(reports.glob(f"*/{ENTRY}"))
    found = {path.parent.name: _read(path) for path in paths if _has_page(reports, path.parent.name)}
    entries = [entry for entry in found.values() if entry is not None]
    entries.sort(key=lambda entry: entry.last_stage, reverse=True)
    if not entries:
        blocks: list[Paragraph | Table | Bullets] = [Paragraph("There is no report in this folder.")]
    else:
        head = [
            "comparison", "model", "data", "outcome", "metric", "difference", "seeds", "cost ratio", "last stage (UTC)",
        ]  # fmt: skip
        note = (
            "Differences are first arm minus second, turned so that positive means that the first is better, with their "
            "interval; cost ratios are first over second. Each comparison is a verdict of its own: the rows are not "
            "corrected for their number."
        )
        rows = [_row(entry) for entry in entries]
        blocks = [Table(head, rows, align="lllllrrrl", sortable=True), Paragraph(note)]
    damaged = [name for name, entry in found.items() if entry is None]
    if damaged:
        blocks.append(
            Paragraph(f"Not listed: {ENTRY} is damaged or of another version. Write these reports again:")
        )
        blocks.append(Bullets([Code(f"prefduel report results/{name}") for name in damaged]))
    return Page(INDEX, "Comparisons", [], [Section(f"Reports: {len(entries)}", blocks)])


def _has_page(reports: Path, name: str) -> bool:
    return all((reports / f"{name}{suffix}").is_file() for suffix in (".md", ".html"))


def _read(path: Path) -> Entry | None:
    """An entry; None for one that is damaged or another folder's: another comparison's report must not fail by it."""
    try:
        entry = finite(Entry.model_validate_json(path.read_bytes()))
    except (OSError, ValueError):
        return None
    return entry if entry.comparison == path.parent.name else None


def _row(entry: Entry) -> list[Text]:
    verdict = entry.verdict
    ratio = verdict.cost_ratio
    difference = with_interval(verdict.difference, verdict.low, verdict.high, signed=True)
    bounds = f" ({interval(verdict.low, verdict.high, signed=True)})" if verdict.low is not None else ""
    cost = "not measured"
    if ratio is not None:
        value, within = ratio_with_interval(ratio.ratio, ratio.low, ratio.high)
        span = f" ({within})" if ratio.low is not None else ""
        words = cost_words(ratio).removeprefix("the ")
        cost = f"{value}{span} {words}"
    return [
        (Link(entry.comparison, entry.comparison), f": {' against '.join(verdict.compare)}"),
        entry.model,
        entry.data,
        verdict.outcome,
        verdict.metric,
        f"{difference}{bounds}",
        str(verdict.num_seeds),
        cost,
        entry.last_stage[:16].replace("T", " ") or "never ran",
    ]
