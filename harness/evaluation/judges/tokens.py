"""How many tokens a request to a judge model takes, before its tokenizer has counted: about, and at most."""

from __future__ import annotations

import math

from harness.evaluation.judges.endpoint import Messages
from pipelines.judge_settings import LlmJudge

BYTES_PER_TOKEN = 4  # of usual text; no byte-level tokenizer makes more tokens than bytes
TOKENS_A_MESSAGE = 16  # roles and separators, generously


def about_tokens(judge: LlmJudge, messages: Messages) -> int:
    """What request and answer of usual text take."""
    return math.ceil(_bytes(messages) / BYTES_PER_TOKEN) + _overhead(judge, messages)


def most_tokens(judge: LlmJudge, messages: Messages) -> int:
    """What request and answer take if every byte is a token."""
    return _bytes(messages) + _overhead(judge, messages)


def _overhead(judge: LlmJudge, messages: Messages) -> int:
    return (judge.most_answer_tokens or 0) + TOKENS_A_MESSAGE * len(messages)


def _bytes(messages: Messages) -> int:
    return sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
