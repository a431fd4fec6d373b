"""`prefduel gc`: remove what no comparison refers to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folders


def gc(
    folders: Folders,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    _debug: Debug = False,
) -> int:
    """List what no comparison refers to, checkpoints first, and remove it after asking."""
    from contextlib import ExitStack

    from harness.garbage import find_garbage, remove
    from harness.hostile import terminal
    from harness.lock import run_lock
    from harness.numbers import bytes_text

    with ExitStack() as stack:
        found = []
        for folder in folders:
            garbage = find_garbage(folder)
            stack.enter_context(run_lock(folder))
            found += garbage
        for piece in found:
            typer.echo(terminal(f"{bytes_text(piece.num_bytes):>10}  {piece.path}: {piece.reason}"))
        total = bytes_text(sum(piece.num_bytes for piece in found))
        if not found:
            typer.echo("nothing to remove")
        elif yes or (sys.stdin.isatty() and typer.confirm(f"Remove these {len(found)} folders ({total})?")):
            for piece in found:
                if piece.path.is_dir():  # not inside one that has gone already
                    remove(piece)
            typer.echo(f"{len(found)} folders removed, {total} freed")
        else:
            typer.echo(f"{len(found)} folders, {total}; nothing was removed: --yes removes them")
    return DONE
