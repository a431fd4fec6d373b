"""The forecast's process where a run's launcher starts it."""

from __future__ import annotations

import os
import traceback
from multiprocessing import connection
from pathlib import Path

from harness.interrupts import end_with_parent
from harness.stage import output_into

USERS_MISTAKE, FAILED = 2, 1


def child(question: str, log: str, answer: connection.Connection) -> None:
    """Answer a forecast's request, both JSON: sends an exit code and the answer, or one line on why there is none."""
    end_with_parent()
    # No GPU is touched. Set before torch looks; a fork server's child has torch, but no driver.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with output_into(Path(log)):
        from huggingface_hub import constants

        from pipelines.errors import PipelineError
        from pipelines.forecast.answer import answer as answer_to
        from pipelines.forecast.request import ForecastRequest

        constants.HF_HUB_OFFLINE = True  # nothing is fetched
        try:
            found = answer_to(ForecastRequest.model_validate_json(question))
            answer.send((0, found.model_dump_json()))
        except PipelineError as error:
            answer.send((USERS_MISTAKE, str(error)))
        except Exception as error:
            traceback.print_exc()
            answer.send((FAILED, f"{type(error).__name__}: {error}"))
