"""`prefduel decide`: the verdict recomputed from the per-item files, by the declared rule or another one."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import DONE, Debug, Folder


def decide(
    folder: Folder,
    margin: Annotated[
        float | None, typer.Option("--margin", metavar="X", help="Another margin, in the metric's unit.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Another primary metric.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", metavar="X", help="Another share of false verdicts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    _debug: Debug = False,
) -> int:
    """Recompute the verdict from the per-item files; writes nothing.

    A rule other than the declared one is marked as decided after the data were seen.
    """
    changes: dict[str, object] = {
        key: value
        for key, value in (("margin", margin), ("metric", metric), ("alpha", alpha))
        if value is not None
    }
    from harness.decide import decision_json, decision_lines, judged_again

    summary = judged_again(folder, changes)
    from harness.hostile import terminal

    if as_json:
        typer.echo(decision_json(summary))
    else:
        for line in decision_lines(summary):
            typer.echo(terminal(line))
    return DONE
