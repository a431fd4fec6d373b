"""`prefduel check`: validate a config and its data."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import DONE, Arms, Changes, ConfigFile, Debug, Seeds


def check(
    config: ConfigFile,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also open the tokenizer and 100 rows (takes a while).")
    ] = False,
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    _debug: Debug = False,
) -> int:
    """Validate a config and its local data; download nothing, train nothing."""
    from harness.load_config import chosen_arms, load_comparison

    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    from harness.check import check_lines

    for line in check_lines(comparison, arms=arms):
        typer.echo(line)
    if deep:
        from harness.deep_check import deep_check_lines

        for line in deep_check_lines(comparison):
            typer.echo(line)
    typer.echo(f"{config} is valid")
    return DONE
