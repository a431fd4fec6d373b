"""Runs one stage in this process: `python -m harness.stage FOLDER/stage.json`.

All that launches stages (fork server, `accelerate launch`, a batch system) hangs on this entry. It always leaves
a `record.json` in the stage's folder, unless the process is killed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing import connection, parent_process
from pathlib import Path

from harness.determinism import make_deterministic
from harness.evaluation.loaded import Loaded
from harness.failures import advice, status_of
from harness.instruments import instruments_of
from harness.integrity import damaged_file, hashes_of_files
from harness.interrupts import StopRequest, end_with_parent
from harness.machine import git_commit, machine, versions
from harness.meters import Instruments, Meter, activations
from harness.nvml import Gpu
from harness.peaks import Peaks, ResidentPeak, cuda_peaks
from harness.records import CHECKPOINTS, LOG, Failure, Machine, Record, Status, read_record, write_record
from pipelines.errors import PipelineError
from pipelines.outcomes import Outcome, TrainOutcome
from pipelines.stages import Stage

STAGE = "stage.json"
Report = Callable[[str, int, int], None]
LOG_TAIL_LINES = 20
STACKS_SIGNAL = signal.SIGUSR1  # upon it a stage's process writes the stacks of its threads into its log
STILL_THERE = None  # what a process that waits for a stage may be asked, and answers


def run_file(stage_file: Path, *, launched_at: float, report: Report, loaded: Loaded | None = None) -> Record:
    """Run the stage that `stage_file` describes, write its record beside it and return it.

    Args:
        stage_file: A `stage.json`; the stage's folder is the one it lies in.
        launched_at: `time.monotonic()` when this process was launched, in seconds.
        report: Called with (phase, done, total).
        loaded: What this process has loaded for an earlier stage, and keeps for a later one; None: nothing.
    """
    folder = stage_file.parent
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    stage = Stage.model_validate_json(stage_file.read_bytes())
    outcome: Outcome | None = None
    files: dict[str, str] = {}
    failure: Failure | None = None
    status: Status = "done"
    make_deterministic(stage)
    instruments = instruments_of(stage)
    meter = Meter(launched_at, report, instruments)
    with instruments.device:
        try:
            outcome, files = _run_to_its_products(stage, folder, meter, loaded or Loaded())
        except Exception as error:
            status, failure = _failed(error, stage, folder)
    cost = meter.cost()
    if isinstance(outcome, TrainOutcome) and outcome.tensor_bytes is not None:
        cost = cost.model_copy(update={"activations_bytes": activations(cost, outcome.tensor_bytes)})
    record = Record(
        stage=stage,
        status=status,
        outcome=outcome,
        failure=failure,
        cost=cost,
        machine=_machine(instruments),
        versions=versions(),
        git_commit=git_commit(),
        start_method=multiprocessing.get_start_method(allow_none=True) if parent_process() else None,
        files=files,
        started_at=started_at,
    )
    write_record(folder, record)
    return record


def run_stages(launcher: connection.Connection) -> None:
    """What a launcher's process does: runs the stages that it is given until one fails or no more come.

    Args:
        launcher: Gives (stage file, `time.monotonic()` when its clock began), or None, which is given back at once; gets
            (phase, done, total) as a stage goes on, and None when it has succeeded.
    """
    end_with_parent()

    def tell(message: tuple[str, int, int] | None) -> None:
        stop.check()
        with contextlib.suppress(OSError):  # the launcher's end may be closed: the stage goes on
            launcher.send(message)

    loaded = Loaded()
    with StopRequest([signal.SIGINT]) as stop:  # the launcher ends a stage by SIGTERM, which shall not wait
        while True:
            try:
                asked = launcher.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                return
            if asked is STILL_THERE:
                with contextlib.suppress(OSError):
                    launcher.send(STILL_THERE)
                continue
            stage_file, launched_at = asked
            with output_into(Path(stage_file).parent / LOG):
                faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
                record = run_file(
                    Path(stage_file),
                    launched_at=launched_at,
                    report=lambda phase, done, total: tell((phase, done, total)),
                    loaded=loaded,
                )
            if record.status != "done":  # what it left in this process is not known
                return
            give_back_memory(record.stage.device)
            tell(None)


def give_back_memory(device: str) -> None:
    """Let go of what an evaluation held beside its model, before the next stage's meter reads its first peak."""
    gc.collect()
    held: list[Peaks] = [ResidentPeak()]
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        held += cuda_peaks()
    for peak in held:  # each still stands at what was held until now
        peak.reset()


def log_tail(folder: Path) -> str:
    """The last lines of the stage's log, without absolute paths of this machine's folders."""
    log = folder / LOG
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    tail = "\n".join(lines)
    for path, name in ((Path.cwd(), "."), (Path(sys.prefix), "<python>"), (Path.home(), "~")):
        tail = tail.replace(str(path), name)
    return tail


def _run_to_its_products(
    stage: Stage, folder: Path, meter: Meter, loaded: Loaded
) -> tuple[Outcome, dict[str, str]]:
    """Run the stage and hash what it leaves for others, which takes its time where weights are big: part of saving."""
    outcome = _run(stage, folder, meter, loaded)
    with meter.aside("save"):
        return outcome, hashes_of_files(folder, outcome.kind)


def _run(stage: Stage, folder: Path, meter: Meter, loaded: Loaded) -> Outcome:
    if stage.kind == "evaluate":
        from harness.evaluation.run import evaluate

        return evaluate(stage, folder, meter, loaded)
    if stage.kind == "judge":
        from harness.evaluation.judges.run import judge

        return judge(stage, folder, meter)
    from pipelines.run import run_stage

    return run_stage(stage, folder, meter)


def _machine(instruments: Instruments) -> Machine:
    """This machine, with the GPU that the stage used, which need not be the first that NVML shows."""
    device = instruments.device.device
    described = device.describe() if isinstance(device, Gpu) else None
    if described is None:
        return machine()
    names = ("accelerator", "accelerator_memory_bytes", "driver")
    return machine().model_copy(update=dict(zip(names, described, strict=True)))


def _failed(error: Exception, stage: Stage, folder: Path) -> tuple[Status, Failure]:
    """What an exception says of the stage: its kind, one line, the log's end, what to do."""
    status = status_of(error, stage)
    if status == "disk_full":
        make_room(folder)
    with contextlib.suppress(OSError):  # the log may lie on a full disk
        traceback.print_exc()
        sys.stderr.flush()
    message = _message_of(error)
    if damaged := _damaged_inputs(stage, folder):
        status, message = "damaged", f"{damaged} ({message})"
    return status, Failure(message=message, evidence=log_tail(folder), advice=advice(status, stage))


def make_room(folder: Path) -> None:
    """Remove what a failed stage half made: nothing can use it, and its record needs the space."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != CHECKPOINTS:
            shutil.rmtree(path, ignore_errors=True)


def _damaged_inputs(stage: Stage, folder: Path) -> str | None:
    """The first file of an input that is not what its record says, or None."""
    for name in stage.inputs.model_dump().values():
        record = read_record(folder.parent / name) if name else None
        if record and (problem := damaged_file(folder.parent / name, record)):
            return problem
    return None


def _message_of(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, PipelineError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def output_into(log: Path) -> Iterator[None]:
    """Everything that this process prints, libraries' own noise included, goes into the stage's log."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Run the stage file named on the command line, printing progress; 0 when it is done, 1 when it failed."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        sys.stderr.write("usage: python -m harness.stage FOLDER/stage.json\n")
        return 2
    record = run_file(
        Path(arguments[0]),
        launched_at=time.monotonic(),
        report=lambda phase, done, total: print(f"{phase} {done}/{total}", flush=True),  # noqa: T201
    )
    if record.failure:
        sys.stderr.write(record.failure.message + "\n")
    return 0 if record.status == "done" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
