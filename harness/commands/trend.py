"""`prefduel trend`: many nights on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folders


def trend(
    folders: Folders,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write it; printed if left out.")
    ] = None,
    _debug: Debug = False,
) -> int:
    """One Markdown page of many nights: metric, cost and verdict by date, and what changed between them."""
    from harness.trend import read_nights, trend_page

    page = trend_page(read_nights(folders))
    if output is None:
        typer.echo(page, nl=False)
    else:
        output.write_text(page, encoding="utf-8")
        typer.echo(str(output))
    return DONE
