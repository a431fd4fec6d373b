"""A chat completion from an OpenAI-compatible endpoint, however badly the endpoint behaves. Never shows the key."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from pipelines.errors import PipelineError
from pipelines.judge_settings import LlmJudge

Messages = list[dict[str, str]]

WORTH_RETRYING = (408, 425, 429)  # beside 5xx
FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 1.0, 300.0
MOST_RESPONSE_BYTES = 4 << 20
HIDDEN = "[key]"


class EndpointUnreachable(PipelineError, ConnectionError):
    """No answer after all attempts: another run may have more luck."""


@dataclass(frozen=True)
class Completion:
    """What the endpoint answered.

    Attributes:
        text: Of the answer; empty where it gave none.
        num_tokens: Of request and answer, as the endpoint counted them; None where it did not.
    """

    text: str
    num_tokens: int | None


class Endpoint:
    """Asks one model.

    Args:
        settings: Where, which model, how patiently.
        sleep: Waits so many seconds between attempts.
        clock: Seconds that only grow.

    Raises:
        PipelineError: the environment variable with the key is not set, or holds what cannot be a key.
    """

    def __init__(
        self,
        settings: LlmJudge,
        *,
        sleep: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._sleep, self._clock = settings, sleep, clock
        self._where = f"judge {settings.name}: {settings.base_url}"
        self._key = _key(settings)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def complete(self, messages: Messages) -> Completion:
        """The model's answer.

        Raises:
            EndpointUnreachable: every attempt failed.
            PipelineError: the endpoint refused the request; another attempt would be refused, too.
        """
        problem = ""
        for attempt in range(self._settings.retries + 1):
            try:
                return self._completion(self._post(messages))
            except urllib.error.HTTPError as error:
                problem, asked = _status(error.code), _retry_after(error.headers.get("Retry-After"))
                error.close()
                if error.code < 500 and error.code not in WORTH_RETRYING:
                    raise PipelineError(f"{self._where} refused the request: {problem}") from None
            except (OSError, http.client.HTTPException, _Malformed) as error:
                problem, asked = _told(error), None
            if attempt < self._settings.retries:
                self._wait(attempt, asked, problem)
        attempts = self._settings.retries + 1
        raise EndpointUnreachable(f"{self._where} gave no answer in {attempts} attempts, at last: {problem}")

    def _wait(self, attempt: int, asked: float | None, problem: str) -> None:
        if asked is not None and asked > MOST_WAIT_SECONDS:
            raise EndpointUnreachable(
                f"{self._where} gave no answer: {problem}, and asks to wait {asked:.0f} seconds"
            )
        backoff = min(FIRST_WAIT_SECONDS * 2**attempt, MOST_WAIT_SECONDS)
        self._sleep(backoff if asked is None else asked)

    def _post(self, messages: Messages) -> bytes:
        body = {**self._settings.parameters, "model": self._settings.model, "messages": messages}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._settings.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
        ends = self._clock() + self._settings.timeout_seconds
        with self._opener.open(request, timeout=self._settings.timeout_seconds) as response:
            parts: list[bytes] = []
            while part := response.read1(1 << 16):
                parts.append(part)
                if sum(map(len, parts)) > MOST_RESPONSE_BYTES:
                    raise _Malformed(f"its answer is longer than {MOST_RESPONSE_BYTES >> 20} MiB")
                if self._clock() > ends:
                    raise TimeoutError("its answer did not end")
        return b"".join(parts)

    def _completion(self, body: bytes) -> Completion:
        try:
            answer = json.loads(body)
            content = answer["choices"][0]["message"]["content"]
            usage = answer.get("usage")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise _Malformed("its answer is no chat completion") from None
        if content is not None and not isinstance(content, str):
            raise _Malformed("its answer is no chat completion")
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        known = isinstance(total, int) and not isinstance(total, bool) and total >= 0
        return Completion(self._without_key(content or ""), total if known else None)

    def _without_key(self, text: str) -> str:
        """An endpoint may send back what it was sent."""
        return text.replace(self._key, HIDDEN) if self._key else text


class _Malformed(Exception):
    """An answer that is none; said in our own words."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to wherever the endpoint says."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the redirect's status is then an error like any other."""


def _key(settings: LlmJudge) -> str | None:
    if settings.api_key_env is None:
        return None
    where = f"judge {settings.name}: the environment variable {settings.api_key_env}"
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise PipelineError(f"{where} is not set: it must hold the endpoint's key")
    # What a header cannot carry is refused here, as the error of http.client would show it.
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise PipelineError(f"{where} must hold a key of printable ASCII characters without spaces")
    return key


def _told(error: Exception) -> str:
    """What went wrong, in words of ours or of the operating system, never of the endpoint."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, _Malformed):
        return str(cause)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__


def _status(code: int) -> str:
    """The status with its standard phrase: the endpoint's own may hold anything."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` asks to wait, a number of them or a date; None where it says neither."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
