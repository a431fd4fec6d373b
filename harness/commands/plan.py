"""`prefduel plan`: what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import DONE, Arms, Changes, ConfigFile, Debug, Nights, Results, Seeds

if TYPE_CHECKING:
    from harness.config import Comparison


def plan(
    config: ConfigFile,
    results: Results = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    night: Nights = None,
    _debug: Debug = False,
) -> int:
    """Say what a run would do: trials, distinct stages, what is done, what is left. Runs nothing."""
    from harness.load_config import chosen_arms, load_comparison

    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    print_outlook(comparison, arms=arms, results=results, night=night, as_json=as_json)
    return DONE


def print_outlook(
    comparison: Comparison,
    *,
    arms: list[str] | None,
    results: Path,
    night: str | None,
    as_json: bool = False,
) -> None:
    """Print what a run of `comparison` would do."""
    from harness.nightly import plan_of
    from harness.outlook import look_ahead, outlook_json, outlook_lines
    from harness.sweep import still_to_choose

    known = plan_of(comparison, arms=arms, results=results, night=night)
    folder = results / known.comparison.name
    outlook = look_ahead(known, folder, not_yet_known=list(still_to_choose(known)))
    if as_json:
        typer.echo(outlook_json(outlook))
    else:
        for line in outlook_lines(known.comparison.name, outlook):
            typer.echo(line)
