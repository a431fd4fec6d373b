"""`prefduel gate`: for a CI job, whether results are worse or dearer than a baseline's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import DONE, SOME_FAILED, Debug, Folder


def gate(
    folder: Folder,
    against: Annotated[
        Path, typer.Option("--against", metavar="BASELINE", help="The results folder of the baseline.")
    ],
    max_cost_ratio: Annotated[
        float | None,
        typer.Option("--max-cost-ratio", metavar="R", min=0, help="In place of `nightly.max_cost_ratio`."),
    ] = None,
    _debug: Debug = False,
) -> int:
    """Exit 1 when an arm got worse than the baseline by more than the margin, or costs too much."""
    from harness.gate import findings, gate_line
    from harness.results import read_results

    found = list(findings(read_results(folder), read_results(against), max_cost_ratio=max_cost_ratio))
    for finding in found:
        typer.echo(gate_line(finding))
    return SOME_FAILED if any(finding.fails for finding in found) else DONE
