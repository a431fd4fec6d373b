"""`token_cap` of a judge model is a cap: every attempt counts, with an answer or without."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.judges.endpoint import Endpoint, EndpointUnreachable
from harness.evaluation.judges.interface import Match
from harness.evaluation.judges.llm import Llm
from harness.evaluation.judges.tokens import most_tokens
from harness.evaluation.judges.verdicts import both_orders
from pipelines.errors import PipelineError
from pipelines.judge_settings import INSTRUCTIONS, LlmJudge
from tests.harness.evaluation.judges import server, stored
from tests.harness.evaluation.judges.server import Handler, drop, no_json, say, send, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A comparison's results folder with the replies of two models."""
    stored.write_both(tmp_path / "results" / "x")
    return tmp_path / "results" / "x"


def settings(base_url: str, **changes: Any) -> dict[str, Any]:
    about = {"name": "gpt", "kind": "llm", "base_url": base_url, "model": "m", "token_cap": 100_000}
    return about | {"retries": 0, "timeout_seconds": 60, **changes}


def run(root: Path, base_url: str, **changes: Any) -> Any:
    outcome, _ = stored.run_judge(root, settings(base_url, **changes), opponent=stored.OTHER)
    return outcome


def test_the_cap_is_told_before_anything_is_asked(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(server.prefer_longer) as there:
        with pytest.raises(
            PipelineError, match=r"7 requests would cost about \d+ tokens, and token_cap \(500\)"
        ):
            run(root, there.base_url, token_cap=500)
        assert there.requests == []
    assert "judge gpt: 7 requests, about" in capfd.readouterr().out


def test_the_cap_is_never_exceeded_and_what_was_had_is_kept(root: Path) -> None:
    cost, cap = 800, 2500  # less than a request's bytes, as tokens are
    with serving(lambda handler, *_: say(handler, "A", tokens=cost)) as there:
        with pytest.raises(PipelineError, match=r"might exceed token_cap .* raise token_cap"):
            run(root, there.base_url, token_cap=cap)
        asked = len(there.requests)
        assert asked >= 1
        assert asked * cost <= cap
        run(root, there.base_url, token_cap=50_000)
        assert len(there.requests) == 7


def test_a_server_that_counts_no_tokens_is_charged_by_the_bytes(root: Path) -> None:
    with serving(lambda handler, *_: say(handler, "A", tokens="many")) as there:
        outcome = run(root, there.base_url)
    sizes = [sum(len(message["content"]) for message in body["messages"]) for body in there.requests]
    assert outcome.num_judge_tokens == sum(sizes) + 7 * (8 + 2 * 16)


MATCH = Match("i", "p", "same", "same")  # one request: both orders are the same


def patient(root: Path, base_url: str, **changes: Any) -> Llm:
    """A judge with eight retries that does not wait between attempts."""
    declared = LlmJudge.model_validate(settings(base_url, retries=8, **changes))
    return Llm(declared, root, lambda *_: None, Endpoint(declared, sleep=lambda _: None))


def useless(handler: Handler, *_: Any) -> None:
    """Billed, and of no use."""
    send(handler, 200, json.dumps({"choices": [], "usage": {"total_tokens": 800}}).encode())


def test_useless_answers_are_charged_what_the_endpoint_counted_and_end_at_the_cap(root: Path) -> None:
    with serving(useless) as there:
        judge = patient(root, there.base_url, token_cap=3500)
        with pytest.raises(PipelineError, match=r"might exceed token_cap \(3500\)"):
            judge.compare([MATCH])
        asked = len(there.requests)
        assert 1 < asked < 9
        assert judge.tokens_spent == 800 * asked <= 3500
        with pytest.raises(PipelineError, match="token_cap"):  # another run has what is left, and no more
            patient(root, there.base_url, token_cap=3500).compare([MATCH])
        assert len(there.requests) == asked


def hang(handler: Handler, *_: Any) -> None:
    handler.rfile.read(1)  # comes when the other side hangs up


@pytest.mark.parametrize(
    ("behave", "charged"),
    [
        (hang, True),
        (drop, True),
        (no_json, True),
        (lambda handler, *_: send(handler, 500, b"oops"), True),
        (lambda handler, *_: send(handler, 429, b"", Retry_After="0"), False),
    ],
)
def test_an_attempt_that_may_have_cost_something_is_charged_all_that_it_may_have(
    root: Path, behave: Any, charged: bool
) -> None:
    with serving(behave) as there:
        first, _ = both_orders(INSTRUCTIONS, MATCH)
        most = most_tokens(LlmJudge.model_validate(settings(there.base_url)), first)
        cap = 3 * most + most // 2
        judge = patient(root, there.base_url, token_cap=cap, timeout_seconds=0.1 if behave is hang else 60)
        with pytest.raises(PipelineError, match="token_cap" if charged else "429 Too Many Requests"):
            judge.compare([MATCH])
        assert len(there.requests) == (3 if charged else 9)
        assert judge.tokens_spent == (3 * most if charged else 0)


def test_an_error_that_says_what_it_cost_is_charged_that(root: Path) -> None:
    def behave(handler: Handler, _: dict[str, Any], number: int) -> None:
        if number < 2:
            send(handler, (500, 429)[number], json.dumps({"usage": {"total_tokens": 30}}).encode())
        else:
            say(handler, "TIE", tokens=7)

    with serving(behave) as there:
        judge = patient(root, there.base_url)
        judge.compare([MATCH])
    assert judge.tokens_spent == 67


def test_nothing_is_charged_where_nobody_listens(root: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        judge = patient(root, f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    with pytest.raises(EndpointUnreachable, match="in 9 attempts"):
        judge.compare([MATCH])
    assert judge.tokens_spent == 0
