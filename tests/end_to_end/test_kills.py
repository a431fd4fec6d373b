"""Killed and stopped: nothing is lost, nothing is left running, and no number changes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.end_to_end.small import make_config, prefduel, records, start_run, started

SECONDS_TO_END = 10  # what children are given to notice that the run is gone
EVERY_STEP = 1e-9
# What holds times, limits, or (state.json) the random name that `datasets` gives a table for its caches.
NO_OUTCOME = ("log.txt", "record.json", "stage.json", "state.json")
COSTS = ("_seconds", "_joules")
OF_THE_OUTCOME = ("status", "outcome", "failure", "decision_hash")


def copy_inputs(done: Path, root: Path, **changes: Any) -> None:
    """The small comparison once more, not run yet."""
    shutil.copytree(done / "model", root / "model")
    shutil.copy(done / "pairs.jsonl", root)
    config = yaml.safe_load((done / "small.yaml").read_text().replace(str(done), str(root)))
    (root / "small.yaml").write_text(yaml.safe_dump(config | changes))


def outcomes(root: Path) -> dict[str, Any]:
    """All that the stages left but times, costs and logs: what their records say, and the hash of each file's bytes."""
    found: dict[str, Any] = {}
    for name, record in records(root).items():
        folder = root / "results/small" / name
        files = {
            str(path.relative_to(folder)): hashlib.sha256(without_costs(path)).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in NO_OUTCOME
        }
        found[name] = {key: record[key] for key in OF_THE_OUTCOME} | {"files": files}
        for path, digest in record["files"].items():
            assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest, path
    return found


def without_costs(path: Path) -> bytes:
    """A file's bytes; of JSON lines without what each step had cost up to then."""
    if path.suffix != ".jsonl":
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if not key.endswith(COSTS)} for row in rows]
    return json.dumps(kept).encode()


def wait_until_gone(family: list[psutil.Process]) -> None:
    """Fail unless all processes have ended in the time that is promised."""
    _, alive = psutil.wait_procs(family, timeout=SECONDS_TO_END)
    assert not [one.cmdline() for one in alive]


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All that a run has started; nothing where it is gone."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_server(process: psutil.Process) -> bool:
    return any("forkserver import main" in word for word in process.cmdline())


def stage_and_server(process: subprocess.Popen[str]) -> tuple[psutil.Process | None, psutil.Process | None]:
    """The running stage's process, and the fork server's, as far as they are there and alive."""
    stage = server = None
    try:
        for child in psutil.Process(process.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE and is_server(child):
                server = child
                alive = [one for one in child.children() if one.status() != psutil.STATUS_ZOMBIE]
                stage = next(iter(alive), None)
    except psutil.NoSuchProcess:
        pass
    return stage, server


def wait_for_stage(process: subprocess.Popen[str], root: Path, kind: str) -> psutil.Process:
    """The process of the next stage of this kind, in the middle of its training: its first checkpoint is there."""
    while True:
        assert process.poll() is None, process.communicate()
        stage, _ = stage_and_server(process)
        sealed = (root / "results/small").glob(f".partial-{kind}-*/checkpoints/*/manifest.json")
        if stage is not None and any(sealed):
            return stage
        time.sleep(0.005)


def test_whatever_is_killed_nothing_is_left_running_and_no_number_changes(done: Path, tmp_path: Path) -> None:
    """A stage, then the fork server, then the run itself: all with signal 9, each in the middle of a training."""
    copy_inputs(done, tmp_path, save_every_minutes=EVERY_STEP, retries=1)
    process = start_run(tmp_path)
    wait_for_stage(process, tmp_path, "orpo").kill()
    wait_for_stage(process, tmp_path, "sft")
    _, server = stage_and_server(process)
    assert server is not None
    server.kill()
    wait_for_stage(process, tmp_path, "dpo")
    family = family_of(process)
    process.kill()
    process.communicate()
    wait_until_gone(family)
    before = started(tmp_path)
    ran = prefduel("run", "small.yaml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    after = started(tmp_path)
    assert {name: after[name] for name in before} == before
    assert max(record["num_attempts"] for record in records(tmp_path).values()) == 2
    assert sum(record["cost"]["num_resumes"] for record in records(tmp_path).values()) >= 2
    assert outcomes(tmp_path) == outcomes(done)


def killed_within(
    process: subprocess.Popen[str], moments: random.Random, span: float, *, stages: int, servers: int
) -> int:
    """Kill this run's stages and fork servers, each at a random moment of its life, until the run itself is gone.

    Args:
        process: The run.
        moments: Where the moments come from.
        span: Seconds from a stage's start within which its moment, or its server's, lies.
        stages: At most so many.
        servers: At most so many; they come first.

    Returns:
        How many were killed.
    """
    num_killed = 0
    due: dict[int, float] = {}
    while process.poll() is None and num_killed < stages + servers:
        stage, server = stage_and_server(process)
        if stage is not None and server is not None:
            moment = due.setdefault(stage.pid, time.monotonic() + moments.uniform(0, span))
            if time.monotonic() >= moment:
                (server if num_killed < servers else stage).kill()
                due[stage.pid] = float("inf")
                num_killed += 1
        time.sleep(0.005)
    process.communicate()
    return num_killed


@pytest.mark.slow
def test_at_least_fifty_kills_change_no_number(done: Path, tmp_path: Path) -> None:
    """Killed before and after every stage gets its name, and at random moments: stages, fork servers, the run itself."""
    copy_inputs(done, tmp_path, save_every_minutes=EVERY_STEP, retries=20)
    through = records(done)
    span = statistics.median(record["cost"]["total_seconds"] for record in through.values())
    moments = random.Random(0)
    num_killed = 0
    for number in range(len(through)):
        assert len(records(tmp_path)) == number
        early = start_run(tmp_path, killed=f"operation:{moments.randrange(1, 40)}")
        early.communicate()
        before = start_run(tmp_path, killed="before")
        num_killed += killed_within(before, moments, span, stages=2, servers=number % 3 == 1)
        after = start_run(tmp_path, killed="after")
        after.communicate()
        assert {run.returncode for run in (early, before, after)} == {-signal.SIGKILL}
        num_killed += 3
    assert prefduel("run", "small.yaml", cwd=tmp_path).returncode == 0
    assert num_killed >= 50
    assert outcomes(tmp_path) == outcomes(done)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_a_training_is_one_line_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    make_config(tmp_path, seeds=1, save_every_minutes=EVERY_STEP)
    process = start_run(tmp_path)
    wait_for_stage(process, tmp_path, "orpo")
    family = family_of(process)
    assert len(family) >= 2
    if number == signal.SIGINT:  # a terminal sends it to all that the run has started
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS_TO_END)
    assert process.returncode == 130
    assert errors == "interrupted. The same command goes on where it stopped.\n"
    wait_until_gone(family)
