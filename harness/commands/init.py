"""`prefduel init`: a config to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Debug


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the comparison is called.")
    ] = "my-comparison",
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="Hub id, local folder or toy.")
    ] = "HuggingFaceTB/SmolLM2-135M-Instruct",
    data: Annotated[
        str, typer.Option("--data", metavar="DATA", help="Hub id, local file or toy.")
    ] = "argilla/distilabel-intel-orca-dpo-pairs",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to write it; NAME.yaml if left out."),
    ] = None,
    _debug: Debug = False,
) -> int:
    """Write a commented config to start from."""
    from harness.starter import write_starter

    path = output or Path(f"{name}.yaml")
    write_starter(path, name=name, model=model, data=data)
    typer.echo(f"{path} written. Next: prefduel check {path}")
    return DONE
