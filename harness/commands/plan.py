"""`prefduel plan`: what a run would do, and what it would need."""

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
    as_json: Annotated[bool, typer.Option("--json", help="For machines, without a forecast.")] = False,
    with_forecast: Annotated[
        bool,
        typer.Option(
            "--forecast/--no-forecast",
            help="Also the forecast's first page: the one that a run left, else one that is made now (seconds).",
        ),
    ] = True,
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    night: Nights = None,
    _debug: Debug = False,
) -> int:
    """Say what a run would do: trials, distinct stages, what is done, what is left; and forecast it. Runs nothing."""
    from harness.load_config import chosen_arms, load_comparison

    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    print_outlook(
        comparison,
        arms=arms,
        results=results,
        night=night,
        as_json=as_json,
        with_forecast=with_forecast and not as_json,
    )
    return DONE


def print_outlook(
    comparison: Comparison,
    *,
    arms: list[str] | None,
    results: Path,
    night: str | None,
    as_json: bool = False,
    with_forecast: bool = True,
) -> None:
    """Print what a run of `comparison` would do, at once, then what it would need."""
    from harness.budget import not_yet_converted
    from harness.concurrency import not_yet_measured
    from harness.judge_budget import judge_budget_lines
    from harness.nightly import plan_of
    from harness.outlook import look_ahead, outlook_json, outlook_lines
    from harness.sweep import still_to_choose

    known = plan_of(comparison, arms=arms, results=results, night=night)
    folder = results / known.comparison.name
    unknown = [*not_yet_measured(known.comparison), *not_yet_converted(known), *still_to_choose(known)]
    outlook = look_ahead(known, folder, not_yet_known=unknown)
    if as_json:
        typer.echo(outlook_json(outlook))
        return
    for line in (*outlook_lines(known.comparison.name, outlook), *judge_budget_lines(known.comparison)):
        typer.echo(line)
    if with_forecast:
        from harness.forecast.before_run import forecast_ahead

        todo = {stage.id for stage in outlook.stages if stage.state == "todo"}
        for line in forecast_ahead(known, todo, folder, arms=arms):
            typer.echo(line)
