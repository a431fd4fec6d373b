"""`prefduel audit`: was the comparison fair?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import from_json

from harness.commands.options import DONE, SOME_FAILED, Debug, Folder


def audit(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    _debug: Debug = False,
) -> int:
    """Judge by what the stages recorded whether the comparison was fair; exit code 1 where it was not, or nothing finished."""
    from harness.audit import audit as judge
    from harness.results import read_results
    from harness.summary_schema import SUMMARY

    found = judge(read_results(folder))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from harness.hostile import terminal

        for check in found.checks:
            typer.echo(terminal(f"{check.status.replace('_', ' '):<14} {check.id}: {check.evidence}"))
        typer.echo(terminal(f"verdict of the audit: {found.told()}"))
    if (before := _last_verdict(folder / SUMMARY)) not in (None, found.verdict):
        typer.echo(
            f"{folder / SUMMARY} says {before}: it is of the last run, and these files have changed since. "
            "The same `prefduel run` writes it anew.",
            err=True,
        )
    return DONE if found.verdict == "fair" else SOME_FAILED


def _last_verdict(summary: Path) -> str | None:
    """The audit's verdict in the summary that the last run wrote; None where there is none."""
    try:
        return str(from_json(summary.read_bytes())["audit"]["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
