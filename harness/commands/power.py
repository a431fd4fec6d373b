"""`prefduel power`: how many seeds and items the declared margin needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Changes, ConfigFile, Debug

ResultsOf = Annotated[
    Path | None,
    typer.Option("--from", metavar="RESULTS_FOLDER", help="Take the variances from this run of both arms."),
]


def power(
    config: ConfigFile,
    source: ResultsOf = None,
    seed_sd: Annotated[
        float, typer.Option("--seed-sd", help="Assumed sd of an arm's mean from seed to seed.")
    ] = 0.02,
    item_sd: Annotated[
        float, typer.Option("--item-sd", help="Assumed sd of what an arm gains on single items.")
    ] = 0.1,
    residual_sd: Annotated[
        float, typer.Option("--residual-sd", help="Assumed sd of one score, seed and item given.")
    ] = 0.4,
    correlation: Annotated[
        float, typer.Option("--correlation", help="Assumed correlation of the arms over seeds.")
    ] = 0.0,
    change: Changes = None,
    _debug: Debug = False,
) -> int:
    """Say before a night how many seeds and items the declared margin needs."""
    from harness.load_config import load_comparison

    comparison = load_comparison(config, overrides=change or ())
    from harness.power_table import assumed, measured, power_lines

    given = (seed_sd, item_sd, residual_sd, correlation)
    spread, words = assumed(*given) if source is None else measured(comparison, source)
    for line in power_lines(comparison, spread, words):
        typer.echo(line)
    return DONE
