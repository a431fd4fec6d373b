"""Asks the forecast's own process, which has the heavy libraries, and waits for its answer."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.errors import UserError
from pipelines.forecast.request import ForecastAnswer, ForecastRequest

MODULE = "pipelines.forecast"
USERS_MISTAKE = 2


def ask(request: ForecastRequest) -> ForecastAnswer:
    """The answer to `request`.

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
