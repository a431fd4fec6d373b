"""`prefduel forecast`: memory, time, disk and money before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, Arms, Changes, ConfigFile, Debug, Results, Seeds


def forecast(
    config: ConfigFile,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="For another device, such as `H100 80GB` or cpu."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a few real steps of each stage on this machine.")
    ] = False,
    pairs: Annotated[
        int | None,
        typer.Option("--pairs", metavar="N", min=1, help="Training pairs, if the data is elsewhere."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    results: Results = Path("results"),
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    _debug: Debug = False,
) -> int:
    """Say what a comparison will need: memory, time, disk, money. Downloads nothing, needs no GPU."""
    from harness.load_config import chosen_arms, load_comparison

    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    from harness.concurrency import settled
    from harness.forecast.absent import without_absent_files
    from harness.forecast.lines import forecast_lines
    from harness.forecast.make import Asked, make_forecast
    from harness.judge_budget import judge_budget_lines
    from harness.plan_so_far import plan_from

    asked = Asked(results=results, device=device, pairs=pairs, calibrate=calibrate)
    comparison, absent = without_absent_files(comparison)
    comparison = settled(comparison, results)
    plan = plan_from(comparison, results / comparison.name, arms=arms)
    found = make_forecast(plan, arms=arms, asked=asked)
    found = found.model_copy(update={"notes": [*absent, *judge_budget_lines(comparison), *found.notes]})
    if as_json:
        typer.echo(found.model_dump_json(by_alias=True, indent=2))
    else:
        for line in forecast_lines(found):
            typer.echo(line)
    return DONE
