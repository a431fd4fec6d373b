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
        truncation: Leave a longer pair out, or keep the start or the end of its prompt. A cut prompt still begins with
            BOS and still ends with the header of the reply, so that it remains one.
        renderer: Knows BOS and that header.
    """
    room = max_length - max(len(pair.chosen_ids), len(pair.rejected_ids))
    prompt = pair.prompt_ids
    if len(prompt) <= room:
        return pair
    if truncation == "drop":
        return Drop.PROMPT_TOO_LONG if len(prompt) >= max_length else Drop.PAIR_TOO_LONG
    start, end = renderer.frame_start_ids, renderer.frame_end_ids
    if (
        end and prompt[-len(end) :] != end
    ):  # the header's first characters belong to a token of the text before it
        end = []
    room -= len(start) + len(end)
    if room < 1:
        return Drop.REPLY_TOO_LONG
    text = prompt[len(start) : len(prompt) - len(end)]
    kept = text[:room] if truncation == "keep_start" else text[-room:]
    return replace(pair, prompt_ids=[*start, *kept, *end])
