"""Pairs made to fit the window, or left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pipelines.data.drops import Drop
from pipelines.data.render import Renderer, TokenizedPair

Truncation = Literal["drop", "keep_start", "keep_end"]


def fit(
    pair: TokenizedPair, max_length: int, *, truncation: Truncation, renderer: Renderer
) -> TokenizedPair | Drop:
    """The pair with a prompt that leaves room for its longer reply; a reply is never cut.

    Args:
        pair: A pair of any length.
        max_length: Tokens of prompt and reply together, at most.
        truncation: Leave a longer pair out, or keep the start or the end of its prompt's text. What the template
            writes before the first and after the last user message is kept, so that it remains a prompt; of another
            beginning (a system text of its own) only BOS is.
        renderer: Knows what the template writes.
    """
    room = max_length - max(len(pair.chosen_ids), len(pair.rejected_ids))
    prompt = pair.prompt_ids
    if len(prompt) <= room:
        return pair
    if truncation == "drop":
        return Drop.PROMPT_TOO_LONG if len(prompt) >= max_length else Drop.PAIR_TOO_LONG
    head = renderer.prompt_head_ids if _starts_with(prompt, renderer.prompt_head_ids) else renderer.bos_ids
    tail = renderer.prompt_tail_ids if _ends_with(prompt, renderer.prompt_tail_ids) else []
    room -= len(head) + len(tail)
    if room < 1:
        return Drop.REPLY_TOO_LONG
    text = prompt[len(head) : len(prompt) - len(tail)]
    kept = text[:room] if truncation == "keep_start" else text[-room:]
    return replace(pair, prompt_ids=[*head, *kept, *tail])


def _starts_with(ids: list[int], head: list[int]) -> bool:
    return ids[: len(head)] == head


def _ends_with(ids: list[int], tail: list[int]) -> bool:
    return not tail or ids[-len(tail) :] == tail
