"""The door of a forecast's process: `python -m pipelines.forecast` reads a request and writes an answer, both JSON.

An error that a person can act on is one line on the standard error output, with exit code 2.
"""

from __future__ import annotations

import contextlib
import sys
import warnings

from pipelines.errors import PipelineError
from pipelines.forecast.answer import answer
from pipelines.forecast.request import ForecastRequest

USERS_MISTAKE = 2


def main() -> int:
    """Answer the request on the standard input. Libraries' own output goes to the standard error output."""
    request = ForecastRequest.model_validate_json(sys.stdin.read())
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = answer(request)
    except PipelineError as error:
        sys.stderr.write(f"\n{error}\n")
        return USERS_MISTAKE
    sys.stdout.write(found.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
