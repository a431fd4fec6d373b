"""What several commands take, said once. The exit codes that commands return."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DONE, SOME_FAILED = 0, 1

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, such as configs/toy.yaml.")]
Folder = Annotated[Path, typer.Argument(metavar="RESULTS_FOLDER", help="A folder that `run` made.")]
Folders = Annotated[list[Path], typer.Argument(metavar="RESULTS_FOLDER...", help="Folders that `run` made.")]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Each comparison gets a folder below it.")
]
Reports = Annotated[Path, typer.Option("--reports", metavar="DIR", help="Folder for the report.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="How many seeds.")]
Arms = Annotated[
    list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm; may be repeated.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config; may be repeated."),
]
Nights = Annotated[
    str | None,
    typer.Option(
        "--night", metavar="DATE", help="A night's run, in a folder of its own: a date, or today (`nightly`)."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict and the report's path only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
