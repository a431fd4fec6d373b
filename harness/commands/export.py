"""`prefduel export`: results as tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folder


class TableFormat(StrEnum):
    """How tables are written."""

    csv = "csv"
    parquet = "parquet"
    json = "json"


def export(
    folder: Folder,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How the tables are written.")
    ] = TableFormat.csv,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Where to; exports/NAME if left out."),
    ] = None,
    _debug: Debug = False,
) -> int:
    """Write results as tidy tables: a row an item, a score, a trial, a stage."""
    from harness.results import read_results

    results = read_results(folder)
    from harness.export import export as write_tables

    for path in write_tables(results, output or Path("exports") / results.plan.comparison.name, form.value):
        typer.echo(str(path))
    return DONE
