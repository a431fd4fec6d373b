"""Log-probs of given replies, without ever holding the logits of a whole batch.

Shapes: b sequences, t tokens, h hidden, c completion tokens of a batch, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from torch import Tensor

from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits held at once: 2**26 float32 numbers are 256 MiB.
MAX_LOGITS = 2**26
PROBE_TOKENS = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scored:
    """One reply to be scored.

    Attributes:
        prompt_ids: At least one token: what the first completion token is conditioned on.
        completion_ids: At least one token; a reply's end of turn is one of them.
    """

    prompt_ids: list[int]
    completion_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)


def without_adapter_wrapper(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (its adapter stays active), or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@torch.inference_mode()
def completion_logprobs(
    model: PreTrainedModel | PeftModel,
    sequences: list[Scored],
    *,
    batch_size: int,
    max_logits: int = MAX_LOGITS,
    progress: Progress = lambda done, total: None,
) -> list[Tensor]:
    """Log-prob of every completion token given all tokens before it.

    Args:
        model: A causal language model in eval mode.
        sequences: What is scored.
        batch_size: Sequences a forward pass; the result does not depend on it but for rounding.
        max_logits: Logits that may be held at once.
        progress: Called with (sequences done, all of them).

    Returns:
        For each sequence, in the given order, its log-probs in nats, float32 on the CPU: (completion tokens,).

    Raises:
        PipelineError: a sequence has no prompt token or no completion token.
    """
    for number, sequence in enumerate(sequences):
        if not sequence.prompt_ids or not sequence.completion_ids:
            raise PipelineError(f"sequence {number} has an empty prompt or an empty reply: nothing to score")
    plain = without_adapter_wrapper(model)
    chunk = max(1, max_logits // plain.config.get_text_config().vocab_size)
    through_head = head_makes_the_logits(plain)
    found: list[Tensor | None] = [None] * len(sequences)
    done = 0
    for batch in _batches(sequences, batch_size):
        scored = [sequences[i] for i in batch]
        if through_head:
            scores_c = _score_through_head(plain, scored, chunk=chunk)
        else:
            scores_c = _score_through_whole_model(plain, scored)
        pieces = torch.split(scores_c.cpu(), [len(sequences[i].completion_ids) for i in batch])
        for i, piece in zip(batch, pieces, strict=True):
            found[i] = piece
        done += len(batch)
        progress(done, len(sequences))
    return [piece for piece in found if piece is not None]


def _batches(sequences: list[Scored], batch_size: int) -> Iterator[list[int]]:
    """Positions in `sequences`, the longest first: little padding, and a lack of memory shows at once."""
    order = sorted(range(len(sequences)), key=lambda i: (-sequences[i].length, i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


@torch.inference_mode()
def head_makes_the_logits(model: PreTrainedModel) -> bool:
    """Whether the output embedding applied to the last hidden state is all there is to the logits.

    Not so for models that scale or cap them afterwards (Gemma, Granite, Cohere); tried, since no attribute says it.
    """
    head = model.get_output_embeddings()
    if head is None:
        return False
    ids = torch.arange(PROBE_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
    hidden_bth = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits_btv = model(input_ids=ids, use_cache=False).logits
    return torch.equal(head(hidden_bth).to(logits_btv.dtype), logits_btv)


def _score_through_head(model: PreTrainedModel, batch: list[Scored], *, chunk: int) -> Tensor:
    """Log-probs of the batch's completion tokens, one sequence after the other: (c,)."""
    ids_bt, mask_bt = _right_padded(batch, model.device)
    hidden_bth = model.base_model(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False).last_hidden_state
    rows, places, targets = _completion_places(batch, model.device)
    hidden_ch = hidden_bth[rows, places]
    head = model.get_output_embeddings()
    return torch.cat(
        [
            _target_logprobs(head(hidden), target)
            for hidden, target in zip(torch.split(hidden_ch, chunk), torch.split(targets, chunk), strict=True)
        ]
    )


def _score_through_whole_model(model: PreTrainedModel, batch: list[Scored]) -> Tensor:
    """The same through the model's own logits, one sequence at a time: slower, and right for any model."""
    scores = []
    for sequence in batch:
        ids_bt, _ = _right_padded([sequence], model.device)
        _, places, targets = _completion_places([sequence], model.device)
        logits_btv = model(input_ids=ids_bt, use_cache=False).logits
        scores.append(_target_logprobs(logits_btv[0, places], targets))
    return torch.cat(scores)


def _target_logprobs(logits_cv: Tensor, target: Tensor) -> Tensor:
    logits_cv = logits_cv.float()
    return logits_cv.gather(1, target[:, None])[:, 0] - logits_cv.logsumexp(dim=1)


def _right_padded(batch: list[Scored], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask; the padding's ids are masked and so may be any: (b, t) each."""
    longest = max(sequence.length for sequence in batch)
    ids = [
        sequence.prompt_ids + sequence.completion_ids + [0] * (longest - sequence.length)
        for sequence in batch
    ]
    mask = [[1] * sequence.length + [0] * (longest - sequence.length) for sequence in batch]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _completion_places(batch: list[Scored], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Row, place whose logits predict the token, and the token, of every completion token: (c,) each."""
    rows: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for row, sequence in enumerate(batch):
        first = len(sequence.prompt_ids) - 1
        rows += [row] * len(sequence.completion_ids)
        places += range(first, first + len(sequence.completion_ids))
        targets += sequence.completion_ids
    return (
        torch.tensor(rows, device=device),
        torch.tensor(places, device=device),
        torch.tensor(targets, device=device),
    )
