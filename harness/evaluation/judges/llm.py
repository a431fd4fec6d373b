"""A judge model behind an endpoint: asked in both orders, within a declared number of tokens, nothing asked twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.evaluation.judges.answers import FOLDER, KeptAnswers, key_of
from harness.evaluation.judges.endpoint import Attempt, Endpoint, Messages
from harness.evaluation.judges.interface import Judgement, Match
from harness.evaluation.judges.tokens import about_tokens, most_tokens
from harness.evaluation.judges.verdicts import both_orders, judgement
from pipelines.errors import PipelineError
from pipelines.judge_settings import LlmJudge

Progress = Callable[[int, int], None]


class Llm:
    """Compares replies by asking a model.

    Args:
        settings: Which model, and how much it may cost.
        results: The comparison's results folder; answers are kept beside it.
        progress: Told how many requests are done.
        endpoint: Who is asked; by default that of the settings.
    """

    def __init__(
        self, settings: LlmJudge, results: Path, progress: Progress, endpoint: Endpoint | None = None
    ) -> None:
        self._settings, self._progress = settings, progress
        self._stopped = threading.Event()
        self._endpoint = endpoint or Endpoint(settings, sleep=self._sleep)
        path = results.resolve().parent / FOLDER / f"{settings.name}.jsonl"
        self._kept = KeptAnswers(path, results.resolve().name)
        self._reserved = 0
        self._changed = threading.Condition()  # guards what is spent and reserved
        self._spent_before = self._kept.spent

    @property
    def tokens_spent(self) -> int:
        """What all attempts cost since this was made."""
        return self._kept.spent - self._spent_before

    def compare(self, matches: Sequence[Match]) -> list[Judgement]:
        """Position-consistent verdicts.

        Raises:
            EndpointUnreachable: the endpoint gives no answers.
            PipelineError: it refuses, or the answers would cost more than the cap.
        """
        orders = [both_orders(self._settings.instructions, match) for match in matches]
        self._ask([messages for pair in orders for messages in pair])
        return [judgement(*(self._answer(messages) for messages in pair)) for pair in orders]

    def _ask(self, requests: list[Messages]) -> None:
        """Get the answers that are not kept yet, the budget said before."""
        wanted = {self._key(messages): messages for messages in requests}
        new = {key: messages for key, messages in wanted.items() if self._kept.get(key) is None}
        about = sum(about_tokens(self._settings, messages) for messages in new.values())
        cap, spent = self._settings.token_cap, self._kept.spent
        print(  # noqa: T201
            f"judge {self._settings.name}: {len(new)} requests, about {about} tokens; {len(wanted) - len(new)} answers are kept; "
            f"{spent} of token_cap {cap} are spent",
            flush=True,
        )
        if spent + about > cap:
            raise PipelineError(
                f"judge {self._settings.name}: {len(new)} requests would cost about {about} tokens, and token_cap ({cap}) leaves "
                f"{max(0, cap - spent)}. Nothing was asked; raise token_cap"
            )
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            waiting = [
                pool.submit(
                    self._endpoint.complete,
                    messages,
                    partial(self._paid, key, most_tokens(self._settings, messages)),
                )
                for key, messages in new.items()
            ]
            try:
                for done, one in enumerate(as_completed(waiting), start=1):
                    one.result()
                    self._progress(done, len(waiting))
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @contextmanager
    def _paid(self, key: str, most: int) -> Iterator[Attempt]:
        """One attempt: the cap bears it before it is sent, and what it cost is on the disk after it."""
        self._reserve(most)
        attempt = Attempt()
        try:
            yield attempt
        finally:
            try:
                cost = most if attempt.num_tokens is None else attempt.num_tokens
                if cost or attempt.text is not None:
                    self._kept.keep(key, attempt.text, cost)
            finally:
                with self._changed:
                    self._reserved -= most
                    self._changed.notify_all()

    def _reserve(self, most: int) -> None:
        """Wait until the cap surely bears one more request, which it may when those under way have cost less."""
        cap = self._settings.token_cap
        with self._changed:
            while self._kept.spent + self._reserved + most > cap:
                if not self._reserved:
                    raise PipelineError(
                        f"judge {self._settings.name}: the next request might exceed token_cap ({cap}), of which "
                        f"{self._kept.spent} are spent. The answers that were had are kept; raise token_cap"
                    )
                self._changed.wait()
            self._reserved += most

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise PipelineError(f"judge {self._settings.name}: given up, as another request failed")

    def _answer(self, messages: Messages) -> str:
        found = self._kept.get(self._key(messages))
        assert found is not None
        return found

    def _key(self, messages: Messages) -> str:
        settings = self._settings
        return key_of([settings.base_url, settings.model, settings.parameters, messages])
