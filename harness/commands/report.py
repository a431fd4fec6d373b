"""`prefduel report`: write reports anew."""

from __future__ import annotations

from contextlib import suppress
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
    if len(folders) > 1:
        _refuse_one_name(folders)
    from harness.report import write_report

    for folder in folders:
        typer.echo(str(write_report(folder, reports, with_host=with_host)))
    return DONE


def _refuse_one_name(folders: list[Path]) -> None:
    """Two comparisons of one name would have one page.

    Raises:
        UserError: two folders are of one name.
    """
    from harness.plan import read_plan

    seen: dict[str, Path] = {}
    for folder in folders:
        with suppress(ValueError, OSError):  # what is damaged is told when it is read
            name = read_plan(folder).comparison.name
            if (other := seen.setdefault(name, folder)).resolve() != folder.resolve():
                raise UserError(
                    f"{folder}: must not have the name of {other}, {name}: one report would replace the other. "
                    "Write them into folders of their own with --reports."
                )
