"""Asks the forecast's own process, which has the heavy libraries, and waits for its answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import UserError
from pipelines.forecast.request import ForecastAnswer, ForecastRequest

if TYPE_CHECKING:
    from harness.launch import Launcher

MODULE = "pipelines.forecast"
USERS_MISTAKE = 2
# A model of 8 billion parameters takes a fraction of it; what takes longer must not hold a run up.
PATIENCE_SECONDS = 300.0

Ask = Callable[[ForecastRequest], ForecastAnswer]
AskTogether = Callable[[list[ForecastRequest]], list[ForecastAnswer]]


def ask_fresh_process(request: ForecastRequest) -> ForecastAnswer:
    """The answer to `request`, from a process that has to load its libraries first.

    Raises:
        UserError: what is asked for cannot be had: one line says why.
        RuntimeError: the process failed; its last lines.
    """
    # Nothing is fetched: a hub id is looked up on this machine only. No GPU is touched either, unless steps are timed.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not request.calibrations:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode == USERS_MISTAKE:
        raise UserError(lines[-1] if lines else "the forecast failed and did not say why")
    if done.returncode != 0:
        raise RuntimeError(f"forecast's process ended with {done.returncode}: " + " | ".join(lines[-3:]))
    return ForecastAnswer.model_validate_json(done.stdout)


def ask_through(launcher: Launcher) -> Ask:
    """Asks a process that starts as a run's stages do: forked with its libraries loaded, where they are.

    What it returns raises as `ask_fresh_process`, and TimeoutError after `PATIENCE_SECONDS`.
    """
    ask_together = ask_together_through(launcher)
    return lambda request: ask_together([request])[0]


def ask_together_through(launcher: Launcher) -> AskTogether:
    """Asks several such processes that work at the same time; a process for each request."""
    from harness.forecast.child import child

    def ask(requests: list[ForecastRequest]) -> list[ForecastAnswer]:
        questions = [request.model_dump_json() for request in requests]
        answers = []
        for code, text in launcher.ask(child, questions, patience_seconds=PATIENCE_SECONDS):
            if code == USERS_MISTAKE:
                raise UserError(text)
            if code != 0:
                raise RuntimeError(text)
            answers.append(ForecastAnswer.model_validate_json(text))
        return answers

    return ask
