"""`prefduel report`: write reports anew."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.commands.options import DONE, Debug, Folders, Reports
from harness.errors import UserError


def report(
    folders: Folders,
    reports: Reports = Path("reports"),
    _debug: Debug = False,
) -> int:
    """Write the report of finished results anew."""
    from harness.plan import COMPARISON

    for folder in folders:
        if not (folder / COMPARISON).is_file():
            raise UserError(f"{folder}: must be a folder that `prefduel run` made, it has no {COMPARISON}.")
    from harness.report import write_report

    for folder in folders:
        typer.echo(str(write_report(folder, reports)))
    return DONE
