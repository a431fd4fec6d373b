"""`prefduel why`: what a stage or a trial was made from, and where two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug


def why(
    name: Annotated[
        str, typer.Argument(metavar="STAGE_OR_TRIAL", help="A stage's id, or a trial: 'orpo seed 0'.")
    ],
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another: say which fields differ.")
    ] = None,
    results: Annotated[
        Path, typer.Option("--results", metavar="DIR", help="A results folder, or the folder above.")
    ] = Path("results"),
    _debug: Debug = False,
) -> int:
    """Say what a stage or a trial was made from; of two, which fields differ."""
    from harness.explain import difference, explanation

    lines = explanation(results, name) if other is None else difference(results, name, other)
    for line in lines:
        typer.echo(line)
    return DONE
