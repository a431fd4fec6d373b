"""The `prefduel` command. Imports nothing heavy: `--help` and a mistake in a config are answered at once."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from harness.errors import UserError
from harness.hostile import terminal

DONE, SOME_FAILED, USERS_MISTAKE, A_BUG, INTERRUPTED = 0, 1, 2, 70, 130

app = typer.Typer(
    add_completion=False,
    # rich is loaded only where a run shows its progress
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="ORPO in one stage, or SFT then DPO in two? A head-to-head on your model, your pairs and your GPU.",
    epilog="Example: prefduel run configs/toy.yaml",
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, such as configs/toy.yaml.")]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Each comparison gets a folder below it.")
]
Reports = Annotated[Path, typer.Option("--reports", metavar="DIR", help="Folder for the report.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="How many seeds.")]
Arms = Annotated[
    list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm; may be repeated.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict and the report's path only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


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
        _complain("interrupted. The same command goes on where it stopped.")
    return code


@app.command(epilog="Example: prefduel run configs/toy.yaml --seeds 5")
def run(
    config: ConfigFile,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    seeds: Seeds = None,
    arm: Arms = None,
    change: Changes = None,
    quiet: Quiet = False,
    _debug: Debug = False,
) -> int:
    """Train, measure and judge; write results and report.

    What is already done is not done again: the same command goes on where it was stopped.
    """
    from harness.load_config import chosen_arms, load_comparison

    comparison = load_comparison(config, overrides=change or (), seeds=seeds)
    arms = chosen_arms(comparison, arm or ())
    from harness.check import look_at_data, requirements_not_met

    if lacking := requirements_not_met(comparison):
        more = f" ({len(lacking) - 1} more: `prefduel check {config}`)" if len(lacking) > 1 else ""
        raise UserError(f"{config}: cannot run here: {lacking[0]}{more}")
    look_at_data(comparison)
    from harness.run import run_comparison

    return run_comparison(comparison, arms=arms, results=results, reports=reports, quiet=quiet)


@app.command(epilog="Example: prefduel check configs/smollm2-135m.yaml --set seeds=5")
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


@app.command(epilog="Example: prefduel report results/toy")
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RESULTS_FOLDER...", help="Folders that `run` made.")
    ],
    reports: Reports = Path("reports"),
    _debug: Debug = False,
) -> int:
    """Write the report of finished results anew."""
    from harness.plan import COMPARISON

    for folder in folders:
        if not (folder / COMPARISON).is_file():
            raise UserError(f"{folder}: must be a folder that `prefduel run` made, it has no {COMPARISON}.")
    from harness.report import write_report

    for folder in folders:
        typer.echo(str(write_report(folder, reports)))
    return DONE


@app.command(epilog="Example: prefduel doctor")
def doctor(_debug: Debug = False) -> int:
    """Say what this machine has, and which configs can run on it."""
    from harness.doctor import doctor_lines

    for line in doctor_lines():
        typer.echo(line)
    return DONE


@app.command(epilog="Example: prefduel init support-bot --data pairs.jsonl")
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the comparison is called.")
    ] = "my-comparison",
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="Hub id, local folder or toy.")
    ] = "HuggingFaceTB/SmolLM2-135M-Instruct",
    data: Annotated[
        str, typer.Option("--data", metavar="DATA", help="Hub id, local file or toy.")
    ] = "argilla/distilabel-intel-orca-dpo-pairs",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to write it; NAME.yaml if left out."),
    ] = None,
    _debug: Debug = False,
) -> int:
    """Write a commented config to start from."""
    from harness.starter import write_starter

    path = output or Path(f"{name}.yaml")
    write_starter(path, name=name, model=model, data=data)
    typer.echo(f"{path} written. Next: prefduel check {path}")
    return DONE


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code and the one line that an exception deserves."""
    if isinstance(error, UserError):
        return USERS_MISTAKE, str(error)
    if isinstance(error, TyperException):
        message = getattr(error, "format_message", error.__str__)().rstrip(".") + "."
        command = getattr(getattr(error, "ctx", None), "command_path", "prefduel")
        return USERS_MISTAKE, f"{message} `{command} --help` shows an example."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            SOME_FAILED,
            "no space is left on the disk. Free some: the same command goes on where it stopped.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return USERS_MISTAKE, f"{error.filename}: {error.strerror}."
    what = f"{type(error).__name__}: {error}"
    return A_BUG, f"a bug in prefduel: {what}. Please report it with what --debug shows."


def _complain(text: str) -> None:
    sys.stderr.write(terminal(" ".join(text.split())) + "\n")
