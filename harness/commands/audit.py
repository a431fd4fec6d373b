"""`prefduel audit`: was the comparison fair?"""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import DONE, SOME_FAILED, Debug, Folder


def audit(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    _debug: Debug = False,
) -> int:
    """Judge by what the stages recorded whether the comparison was fair; exit code 1 where it was not, or nothing finished."""
    from harness.audit import audit as judge
    from harness.results import read_results

    found = judge(read_results(folder))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from harness.hostile import terminal

        for check in found.checks:
            typer.echo(terminal(f"{check.status.replace('_', ' '):<14} {check.id}: {check.evidence}"))
        typer.echo(terminal(f"verdict of the audit: {found.told()}"))
    return DONE if found.verdict == "fair" else SOME_FAILED
