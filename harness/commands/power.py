"""`prefduel power`: how many seeds and items the declared margin needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Changes, ConfigFile, Debug
from harness.errors import UserError

ResultsOf = Annotated[
    Path | None,
    typer.Option("--from", metavar="RESULTS_FOLDER", help="Take the variances from this run of both arms."),
]


def power(
    config: ConfigFile,
    source: ResultsOf = None,
    seed_sd: Annotated[
        float | None,
        typer.Option(
            "--seed-sd", metavar="X", help="Assumed sd of an arm's mean from seed to seed; 0.02 if left out."
        ),
    ] = None,
    item_sd: Annotated[
        float | None,
        typer.Option(
            "--item-sd", metavar="X", help="Assumed sd of what an arm gains on single items; 0.1 if left out."
        ),
    ] = None,
    residual_sd: Annotated[
        float | None,
        typer.Option(
            "--residual-sd",
            metavar="X",
            help="Assumed sd of one score, seed and item given; 0.4 if left out.",
        ),
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(
            "--correlation", metavar="X", help="Assumed correlation of the arms over seeds; 0 if left out."
        ),
    ] = None,
    change: Changes = None,
    _debug: Debug = False,
) -> int:
    """Say before a night how many seeds and items the declared margin needs."""
    given = {
        "--seed-sd": seed_sd,
        "--item-sd": item_sd,
        "--residual-sd": residual_sd,
        "--correlation": correlation,
    }
    assumptions = {name: value for name, value in given.items() if value is not None}
    if source is not None and assumptions:
        raise UserError(
            f"--from: takes the variances from {source}, so nothing is assumed; leave {', '.join(assumptions)} out."
        )
    from harness.load_config import load_comparison

    comparison = load_comparison(config, overrides=change or ())
    from harness.power_table import assumed, measured, power_lines

    spread, words = assumed(assumptions) if source is None else measured(comparison, source)
    for line in power_lines(comparison, spread, words):
        typer.echo(line)
    return DONE
