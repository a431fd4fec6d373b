"""`prefduel run`: train, measure, judge, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    DONE,
    Arms,
    Changes,
    ConfigFile,
    Debug,
    Nights,
    Quiet,
    Reports,
    Results,
    Seeds,
)
from harness.commands.plan import print_outlook
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.config import Comparison

MOST_SEEDS = 20  # of a run that stops when it is decided


def run(
    config: ConfigFile,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is done and what is left, as `plan` does.")
    ] = False,
    night: Nights = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided", help="Judge at 3 seeds, then at most once more, at the seeds it takes."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            "--max-seeds",
            metavar="N",
            min=4,
            help=f"At most so many with --until-decided; {MOST_SEEDS} if left out.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run also where the forecast says that memory will not do.")
    ] = False,
    _debug: Debug = False,
) -> int:
    """Train, measure and judge; write results and report.

    What is already done is not done again: the same command goes on where it was stopped.
    """
    from harness.load_config import chosen_arms, load_comparison
    from harness.overrides import names

    if until_decided and (seeds is not None or names(change or (), "seeds") or arm or night is not None):
        raise UserError(
            "--until-decided: chooses the seeds itself and needs every arm; leave --seeds (--set seeds), --arm and "
            "--night out."
        )
    if until_decided and dry_run:
        raise UserError(
            "--dry-run: cannot say what a run --until-decided does, which its first look decides. "
            f"`prefduel plan {config} --seeds 3` shows the first look."
        )
    if max_seeds is not None and not until_decided:
        raise UserError("--max-seeds: is for --until-decided. How many seeds a plain run has is --seeds.")
    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    from harness.check import look_at_data, look_at_sft_data, needless_lines, requirements_not_met
    from harness.judge_budget import judge_budget_lines

    if lacking := requirements_not_met(comparison):
        more = f" ({len(lacking) - 1} more: `prefduel check {config}`)" if len(lacking) > 1 else ""
        raise UserError(f"{config}: cannot run here: {lacking[0]}{more}")
    look_at_data(comparison)
    look_at_sft_data(comparison)
    if dry_run:
        print_outlook(comparison, arms=arms, results=results, night=night)
        return DONE
    for line in () if quiet else needless_lines(comparison):
        typer.echo(line, err=True)
    from harness.run import run_comparison

    def run_at(planned: Comparison) -> int:
        for line in () if quiet else judge_budget_lines(planned):
            typer.echo(line, err=True)
        return run_comparison(
            planned, arms=arms, results=results, reports=reports, quiet=quiet, night=night, force=force
        )

    if not until_decided:
        return run_at(comparison)
    from harness.summary_schema import read_summary
    from harness.until_decided import run_until_decided

    return run_until_decided(
        comparison,
        max_seeds=MOST_SEEDS if max_seeds is None else max_seeds,
        run=run_at,
        summary=lambda: read_summary(results / comparison.name),
        say=typer.echo,
    )
