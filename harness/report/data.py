"""What went in, and what went wrong: the data after the shared loader, and the stages that did not finish."""

from __future__ import annotations

from harness.numbers import count
from harness.report.page import Block, Code, Paragraph, Section, Table, cut
from harness.report.view import View


def data_section(view: View) -> Section:
    """Pairs and tokens of each split; rows that could not serve, and why."""
    data = view.summary.data
    if data is None:
        return Section("Data", [Paragraph("Not measured: the data stage did not finish.")])
    form = (
        f"{data.num_rows:,} rows of the form ",
        Code(data.form),
        "; content hash ",
        Code(data.content_hash[:12]),
        ".",
    )
    rows = [
        (
            name,
            count(split.num_pairs),
            count(split.num_prompt_tokens),
            count(split.num_chosen_tokens),
            count(split.num_rejected_tokens),
        )
        for name, split in data.splits.items()
    ]
    head = ["split", "pairs", "prompt tokens", "chosen tokens", "rejected tokens"]
    blocks: list[Block] = [Paragraph(form), Table(head, rows)]
    if data.num_truncated:
        blocks.append(Paragraph(f"{data.num_truncated:,} prompts were cut to fit the window."))
    if data.num_system_merged:
        blocks.append(
            Paragraph(
                f"In {data.num_system_merged:,} pairs the system text was put before the first user turn's, because the chat "
                "template has no system role."
            )
        )
    if not data.dropped:
        return Section("Data", [*blocks, Paragraph("No row was dropped.")])
    dropped = [
        (Code(reason.reason), count(reason.num_rows), ", ".join(map(str, reason.first_rows)))
        for reason in data.dropped
    ]
    table = Table(["reason", "rows", "first row numbers, from 0"], dropped, align="lrl")
    return Section("Data", [*blocks, Paragraph("Rows that could not serve:"), table])


def failures_section(view: View) -> Section:
    """Every stage that did not finish, and what it was needed for."""
    failures = view.summary.failures
    if not failures:
        return Section("Failures", [Paragraph("Every stage finished.")])
    rows = [
        (
            Code(failure.stage),
            failure.status.replace("_", " "),
            ", ".join(failure.trials[:4]) + (" ..." if len(failure.trials) > 4 else ""),
            Code(view.shown(failure.message)),
            view.shown(failure.advice),
        )
        for failure in failures
    ]
    table = Table(["stage", "status", "needed for", "message", "what to do"], rows, align="lllll")
    return Section("Failures", cut(table, view.export))
