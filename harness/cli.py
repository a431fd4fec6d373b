"""The `prefduel` command. Imports nothing heavy: `--help` and a mistake in a config are answered at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import typer
from typer.exceptions import TyperException

from harness.commands.audit import audit
from harness.commands.check import check
from harness.commands.decide import decide
from harness.commands.doctor import doctor
from harness.commands.export import export
from harness.commands.forecast import forecast
from harness.commands.gate import gate
from harness.commands.gc import gc
from harness.commands.init import init
from harness.commands.options import DONE, SOME_FAILED
from harness.commands.plan import plan
from harness.commands.power import power
from harness.commands.report import report
from harness.commands.run import run
from harness.commands.status import status
from harness.commands.trend import trend
from harness.commands.why import why
from harness.errors import UserError
from harness.hostile import terminal
from harness.reserve import FULL

USERS_MISTAKE, A_BUG, INTERRUPTED = 2, 70, 130

# Every command with the example that its help shows.
COMMANDS: tuple[tuple[Callable[..., int], str], ...] = (
    (run, "prefduel run configs/toy.yaml --seeds 5"),
    (forecast, 'prefduel forecast configs/llama-3.1-8b-lora.yaml --device "RTX 4090"'),
    (plan, "prefduel plan configs/toy.yaml --seeds 5"),
    (check, "prefduel check configs/smollm2-135m.yaml --set seeds=5"),
    (status, "prefduel status results/toy"),
    (why, "prefduel why 'orpo seed 0' 'orpo seed 1' --results results/toy"),
    (gc, "prefduel gc results/toy"),
    (gate, "prefduel gate results/toy-2026-11-25 --against results/toy-2026-11-24"),
    (trend, "prefduel trend results/toy-2026-11-*"),
    (report, "prefduel report results/toy"),
    (audit, "prefduel audit results/toy --json"),
    (export, "prefduel export results/toy --format parquet"),
    (decide, "prefduel decide results/toy --margin 0.05"),
    (power, "prefduel power configs/toy.yaml --from results/toy"),
    (doctor, "prefduel doctor"),
    (init, "prefduel init support-bot --data pairs.jsonl"),
)

app = typer.Typer(
    add_completion=False,
    # rich is loaded only where a run shows its progress
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="ORPO in one stage, or SFT then DPO in two? A head-to-head on your model, your pairs and your GPU.",
    epilog="Example: prefduel run configs/toy.yaml",
)
for command, example in COMMANDS:
    app.command(epilog=f"Example: {example}")(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done; 1 finished, but some stage failed; 2 the user's mistake; 70 a bug of ours; 130 interrupted.

    Args:
        arguments: What follows the command's name; those of this process if None.
    """
    given = sys.argv[1:] if arguments is None else arguments
    # Looking for pydantic plugins reads the metadata of every installed package: 20 ms of the 300 allowed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        code = int(app(args=given or ["--help"], prog_name="prefduel", standalone_mode=False) or DONE)
    except Exception as error:
        code, message = _explained(error)
        if "--debug" in given:
            traceback.print_exc()
        _complain(message)
    if code == INTERRUPTED:
        _complain("interrupted." + " The same command goes on where it stopped." * (given[:1] == ["run"]))
    return code


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code and the one line that an exception deserves."""
    if isinstance(error, UserError):
        return USERS_MISTAKE, str(error)
    if isinstance(error, TyperException):
        message = getattr(error, "format_message", error.__str__)().rstrip(".") + "."
        command = getattr(getattr(error, "ctx", None), "command_path", "prefduel")
        return USERS_MISTAKE, f"{message} `{command} --help` shows an example."
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            SOME_FAILED,
            "no space is left on the disk. Free some: the same command goes on where it stopped.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        # Of a file that is renamed the second is the one that a person knows.
        return USERS_MISTAKE, f"{error.filename2 or error.filename}: {error.strerror}."
    what = f"{type(error).__name__}: {error}"
    return A_BUG, f"a bug in prefduel: {what}. Please report it with what --debug shows."


def _complain(text: str) -> None:
    sys.stderr.write(terminal(" ".join(text.split())) + "\n")
