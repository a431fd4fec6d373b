"""Log-probs of given replies, without ever holding the logits of a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.evaluation.packing import Prompted
from harness.evaluation.reading import Reader
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Progress = Callable[[int, int], None]


@torch.inference_mode()
def reply_logprobs(
    model: PreTrainedModel | PeftModel,
    items: list[Prompted],
    *,
    batch_size: int,
    max_logits: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[list[Tensor]]:
    """Log-prob of every token of every reply given all tokens before it.

    Args:
        model: A causal language model in eval mode.
        items: Prompts with their replies.
        batch_size: The most prompts of a forward pass; the result does not depend on it but for rounding.
        max_logits: Logits that may be held at once; `MAX_LOGITS` if None.
        progress: Called with (prompts done, all of them).

    Returns:
        For each item, for each of its replies, the log-probs in nats, float32 on the CPU: (reply tokens,).

    Raises:
        PipelineError: an item has no prompt token, no reply, or a reply without a token.
    """
    check(items)
    reader = Reader(model, items, max_logits=max_logits)
    found: dict[int, list[Tensor]] = {}
    for place, scores_c in reader.tried.items():  # no need to read them twice
        found |= by_reply(scores_c.cpu(), items, [place])
    for batch in reader.batches(items, batch_size, but=reader.tried):
        scores_c = reader.target_logprobs(*reader.states([items[place] for place in batch]))
        found |= by_reply(scores_c.cpu(), items, batch)
        progress(len(found), len(items))
    return [found[place] for place in range(len(items))]


def check(items: list[Prompted]) -> None:
    """Raise PipelineError where there is nothing to condition on, or nothing to score."""
    for number, item in enumerate(items):
        if not item.prompt_ids or not item.replies or not all(item.replies):
            raise PipelineError(f"item {number} has an empty prompt or an empty reply: nothing to score")


def by_reply(values_c: Tensor, items: list[Prompted], batch: list[int]) -> dict[int, list[Tensor]]:
    """A batch's values, one for each reply token, cut into those of each item and reply."""
    found: dict[int, list[Tensor]] = {}
    start = 0
    for place in batch:
        found[place] = []
        for reply in items[place].replies:
            found[place].append(values_c[start : start + len(reply)])
            start += len(reply)
    return found
