"""A chat completion from an OpenAI-compatible endpoint, however badly the endpoint behaves. Never shows the key."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from harness.evaluation.judges.exchange import Exchange
from pipelines.errors import PipelineError
from pipelines.judge_settings import LlmJudge

Messages = list[dict[str, str]]

WORTH_RETRYING = (408, 425, 429)  # beside 5xx
FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 1.0, 300.0
MOST_RESPONSE_BYTES = 4 << 20
HIDDEN = "[key]"


class EndpointUnreachable(PipelineError, ConnectionError):
    """No answer after all attempts: another run may have more luck."""


@dataclass
class Attempt:
    """One request that is sent once.

    Attributes:
        text: Of the answer; None where it is none.
        num_tokens: Of request and answer, as the endpoint counted them; 0 where it surely did nothing, None where it is
            not known what it did.
    """

    text: str | None = None
    num_tokens: int | None = 0


def _unpaid() -> AbstractContextManager[Attempt]:
    return nullcontext(Attempt())


class Endpoint:
    """Asks one model.

    Args:
        settings: Where, which model, how patiently.
        sleep: Waits so many seconds between attempts.

    Raises:
        PipelineError: the environment variable with the key is not set, or holds what cannot be a key.
    """

    def __init__(self, settings: LlmJudge, *, sleep: Callable[[float], Any] = time.sleep) -> None:
        self._settings, self._sleep = settings, sleep
        self._where = f"judge {settings.name}: {settings.base_url}"
        self._key = _key(settings)

    def complete(
        self, messages: Messages, attempts: Callable[[], AbstractContextManager[Attempt]] = _unpaid
    ) -> str:
        """The model's answer; empty where it gave none.

        Args:
            messages: What is asked.
            attempts: Surrounds each attempt, and learns at its end what was had and what it cost.

        Raises:
            EndpointUnreachable: every attempt failed.
            PipelineError: the endpoint refused the request; another attempt would be refused, too.
        """
        problem = ""
        for number in range(self._settings.retries + 1):
            with attempts() as attempt:
                problem, asked = self._try(messages, attempt)
            if attempt.text is not None:
                return attempt.text
            if number < self._settings.retries:
                self._wait(number, asked, problem)
        tries = self._settings.retries + 1
        raise EndpointUnreachable(f"{self._where} gave no answer in {tries} attempts, at last: {problem}")

    def _try(self, messages: Messages, attempt: Attempt) -> tuple[str, float | None]:
        """Ask once: what was wrong, where the attempt has no text after it, and how long the endpoint asks to wait."""
        try:
            status, asked, body = self._post(messages, attempt)
        except (OSError, http.client.HTTPException, _Malformed) as error:
            return _told(error), None
        answer = _json(body)
        attempt.num_tokens = _num_tokens(answer)
        if status < 300:
            attempt.text = self._text(answer)
            return "its answer is no chat completion", None
        if status < 500 and attempt.num_tokens is None:
            attempt.num_tokens = 0  # it refused to work
        if status < 500 and status not in WORTH_RETRYING:
            raise PipelineError(f"{self._where} refused the request: {_status(status)}")
        return _status(status), asked

    def _wait(self, attempt: int, asked: float | None, problem: str) -> None:
        if asked is not None and asked > MOST_WAIT_SECONDS:
            raise EndpointUnreachable(
                f"{self._where} gave no answer: {problem}, and asks to wait {asked:.0f} seconds"
            )
        backoff = min(FIRST_WAIT_SECONDS * 2**attempt, MOST_WAIT_SECONDS)
        self._sleep(backoff if asked is None else asked)

    def _post(self, messages: Messages, attempt: Attempt) -> tuple[int, float | None, bytes]:
        """Status, what `Retry-After` asks, and body."""
        body = {**self._settings.parameters, "model": self._settings.model, "messages": messages}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._settings.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
        seconds = self._settings.timeout_seconds
        with Exchange(seconds) as exchange:
            opener = urllib.request.build_opener(_NoRedirect, *exchange.handlers())
            try:
                return _read(opener, request, seconds)
            finally:
                if exchange.sent:
                    attempt.num_tokens = None
                if exchange.is_over:
                    raise TimeoutError from None

    def _text(self, answer: Any) -> str | None:
        try:
            content = answer["choices"][0]["message"]["content"]
        except (LookupError, TypeError):
            return None
        if content is not None and not isinstance(content, str):
            return None
        # An endpoint may send back what it was sent.
        return (content or "").replace(self._key, HIDDEN) if self._key else content or ""


def _read(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, seconds: float
) -> tuple[int, float | None, bytes]:
    try:
        with opener.open(request, timeout=seconds) as response:
            return response.status, None, _bounded(response)
    except urllib.error.HTTPError as error:
        body = b""
        with error, contextlib.suppress(OSError, http.client.HTTPException, _Malformed):
            body = _bounded(error)
        return error.code, _retry_after(error.headers.get("Retry-After")), body


def _bounded(response: Any) -> bytes:
    body: bytes = response.read(MOST_RESPONSE_BYTES + 1)
    if len(body) > MOST_RESPONSE_BYTES:
        raise _Malformed(f"its answer is longer than {MOST_RESPONSE_BYTES >> 20} MiB")
    return body


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _num_tokens(answer: Any) -> int | None:
    """What the endpoint says that it counted, be the answer of use or not."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    known = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return total if known else None


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
