"""`prefduel status`: what a run is doing, from another terminal."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folder

SECONDS_BETWEEN_LOOKS = 1.0


def status(
    folder: Folder,
    once: Annotated[bool, typer.Option("--once", help="Print once, also in a terminal.")] = False,
    _debug: Debug = False,
) -> int:
    """Show what a run is doing and how long it will take still; live in a terminal, until it ends."""
    from harness.lock import is_held
    from harness.status import status_lines

    lines = list(status_lines(folder))
    if once or not sys.stdout.isatty() or not is_held(folder):
        for line in lines:
            typer.echo(line)
        return DONE
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False) as live:
        goes_on = True
        while goes_on:
            goes_on = is_held(folder)
            live.update(Text("\n".join(status_lines(folder))), refresh=True)
            time.sleep(SECONDS_BETWEEN_LOOKS * goes_on)
    return DONE
