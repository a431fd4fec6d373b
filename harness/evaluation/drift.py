"""How far a model has drifted from its base: in what it says, token by token, and in its weights.

Shapes: c reply tokens, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor

from harness.evaluation.items import Measured, Row
from harness.evaluation.logprobs import Progress, by_reply, check
from harness.evaluation.packing import Prompted
from harness.evaluation.pairs import chosen_pairs, prompt_id
from harness.evaluation.reading import Reader
from harness.evaluation.replies import Limits, greedy_replies
from harness.evaluation.weights import overall, weight_changes
from harness.records import PROMPT, WEIGHTS_BY_LAYER
from pipelines.data.prepared import read_outcome
from pipelines.evaluations import DriftEvaluation
from pipelines.stages import Observer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WHOLE_MODEL = "weights"  # the item of a number that is one for the whole model


def measure_drift(
    model: PreTrainedModel | PeftModel,
    base: PreTrainedModel | None,
    evaluation: DriftEvaluation,
    data: Path,
    *,
    observer: Observer,
) -> Measured:
    """Compare a trained model with its base.

    Args:
        model: The policy, in eval mode.
        base: The untouched base model in eval mode; None where `model` is an adapter, which holds it.
        evaluation: On which prompts, and whether on the model's own replies too.
        data: Folder of the stage that prepared the data.
        observer: Told of phases and progress.
    """
    with observer.phase("data"):
        pairs = chosen_pairs(data, evaluation.split, evaluation.max_items)
        prepared = read_outcome(data)
    with observer.phase("evaluate"):
        replies = [[pair["chosen_ids"]] for pair in pairs]
        if evaluation.own_replies:
            limits = Limits(
                end_of_turn_ids=prepared.end_of_turn_ids,
                pad_token_id=prepared.pad_token_id,
                max_new_tokens=evaluation.max_new_tokens,
                batch_size=evaluation.batch_size,
            )
            own = greedy_replies(model, [pair["prompt_ids"] for pair in pairs], limits)
            # The end of turn is a token that the model chose, too; which one does not matter to the divergence there.
            for held, reply in zip(replies, own, strict=True):
                held.append(reply.ids + prepared.end_of_turn_ids[:1] * reply.stopped)
        items = [Prompted(pair["prompt_ids"], held) for pair, held in zip(pairs, replies, strict=True)]
        kl = kl_to_base(model, base, items, batch_size=evaluation.batch_size, progress=observer.progress)
        layers = weight_changes(model, base)
    rows: list[Row] = [_row(pair, found) for pair, found in zip(pairs, kl, strict=True)]
    rows.append({"item": WHOLE_MODEL, "weights_distance": overall(layers).relative})
    changes: list[Row] = [
        {
            "layer": layer.name,
            "num_parameters": layer.num_parameters,
            "base_norm": layer.base_norm,
            "change_norm": layer.change_norm,
            "relative": layer.relative,
        }
        for layer in layers
    ]
    return Measured(rows, {WEIGHTS_BY_LAYER: changes})


@torch.inference_mode()
def kl_to_base(
    model: PreTrainedModel | PeftModel,
    base: PreTrainedModel | None,
    items: list[Prompted],
    *,
    batch_size: int,
    max_logits: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[list[Tensor]]:
    """KL(model || base) over the whole vocabulary, at every place that predicts a token of a reply.

    Args:
        model: The policy, in eval mode.
        base: Its base; None for an adapter, which is switched off to get it.
        items: Prompts with their replies.
        batch_size: The most prompts of a forward pass.
        max_logits: Logits of one model that may be held at once.
        progress: Called with (prompts done, all of them).

    Returns:
        For each item, for each of its replies, the divergences in nats, float64 on the CPU: (reply tokens,).

    Raises:
        PipelineError: an item has no prompt token, no reply, or a reply without a token.
    """
    check(items)
    as_base: Callable[[], AbstractContextManager[Any]] = nullcontext
    if base is None:
        assert isinstance(model, PeftModel)
        as_base = model.disable_adapter
    reader = Reader(model, items, max_logits=max_logits)
    with as_base():
        of_base = Reader(model if base is None else base, items, max_logits=max_logits)
    found: dict[int, list[Tensor]] = {}
    for batch in reader.batches(items, batch_size):
        held = [items[place] for place in batch]
        states, _ = reader.states(held)
        with as_base():
            base_states, _ = of_base.states(held)
        pieces: list[Tensor] = []
        for some, others in zip(
            torch.split(states, reader.rows_at_once),
            torch.split(base_states, reader.rows_at_once),
            strict=True,
        ):
            logprobs_cv = reader.logits(some).log_softmax(dim=1)
            with as_base():  # an adapter may sit on the output embedding
                base_logprobs_cv = of_base.logits(others).log_softmax(dim=1)
            pieces.append(_divergence(logprobs_cv, base_logprobs_cv))
        found |= by_reply(torch.cat(pieces).cpu(), items, batch)
        progress(len(found), len(items))
    return [found[place] for place in range(len(items))]


def _divergence(logprobs_cv: Tensor, base_logprobs_cv: Tensor) -> Tensor:
    return (logprobs_cv.exp() * (logprobs_cv - base_logprobs_cv)).sum(dim=1, dtype=torch.float64)


def _row(pair: dict[str, Any], kl: list[Tensor]) -> Row:
    row = {"item": pair["uid"], PROMPT: prompt_id(pair), "kl_to_base": float(kl[0].mean())}
    return row | ({"kl_to_base_own": float(kl[1].mean())} if len(kl) > 1 else {})
