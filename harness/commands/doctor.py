"""`prefduel doctor`: what this machine has."""

from __future__ import annotations

import typer

from harness.commands.options import DONE, Debug


def doctor(_debug: Debug = False) -> int:
    """Say what this machine has, and which configs can run on it."""
    from harness.doctor import doctor_lines

    for line in doctor_lines():
        typer.echo(line)
    return DONE
