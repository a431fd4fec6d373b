"""`prefduel report`: write reports anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folders, Reports
from harness.errors import UserError


def report(
    folders: Folders,
    reports: Reports = Path("reports"),
    with_host: Annotated[
        bool, typer.Option("--with-host", help="Leave absolute paths and names of hosts in it.")
    ] = False,
    _debug: Debug = False,
) -> int:
    """Write the reports of finished results anew, and the index of the folder."""
    from harness.plan import COMPARISON

    for folder in folders:
        if not (folder / COMPARISON).is_file():
            raise UserError(f"{folder}: must be a folder that `prefduel run` made, it has no {COMPARISON}.")
    from harness.report import write_report

    for folder in folders:
        typer.echo(str(write_report(folder, reports, with_host=with_host)))
    return DONE
