"""Replies of a model to prompts, greedy or sampled, the same whatever batch a prompt stands in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from harness.evaluation.logprobs import Progress
from harness.evaluation.reading import without_adapter_wrapper

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        ids: The reply's tokens, its end of turn not among them.
        stopped: Whether it ended by itself; else it was cut.
    """

    ids: list[int]
    stopped: bool


@dataclass(frozen=True)
class Limits:
    """Where every reply ends, and how many prompts are answered at once.

    Attributes:
        end_of_turn_ids: A reply ends at any of these tokens.
        pad_token_id: Fills prompts on their left.
        max_new_tokens: Tokens after which a reply is cut.
        batch_size: Prompts a batch.
    """

    end_of_turn_ids: list[int]
    pad_token_id: int
    max_new_tokens: int
    batch_size: int


def greedy_replies(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    limits: Limits,
    *,
    progress: Progress = lambda done, total: None,
) -> list[Reply]:
    """The likeliest token at each place. In the order of `prompts`, which are token ids."""
    return _replies(model, prompts, [None] * len(prompts), limits=limits, progress=progress)


def sampled_replies(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    limits: Limits,
    *,
    seeds: list[int],
    progress: Progress = lambda done, total: None,
) -> list[Reply]:
    """One reply a prompt at temperature 1, drawn with the prompt's own seed."""
    return _replies(model, prompts, list(seeds), limits=limits, progress=progress)


def item_seed(seed: int, uid: str) -> int:
    """The seed of one item's sample. It knows nothing of the model: the same noise meets every model."""
    return int.from_bytes(hashlib.sha256(f"{seed} {uid}".encode()).digest()[:8], "big") >> 1


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise to the logits, so that the greatest one is a sample of the softmax at temperature 1.

    Each row draws from its own generator, once a step, so its noise does not depend on the rows beside it.

    References:
        Maddison, Tarlow and Minka 2014, "A* Sampling", section 2 (the Gumbel-max trick).
    """

    def __init__(self, seeds: list[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (batch, vocabulary) plus noise."""
        exponential = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=own) for own in self._generators]
        )
        return scores - exponential.log().to(scores.device)


@contextmanager
def neutral_generation(model: PreTrainedModel) -> Iterator[None]:
    """Take the checkpoint's own generation settings away.

    transformers 5.23 fills whatever a given `GenerationConfig` leaves open from the model's own, such as a
    repetition penalty: the models of one comparison would be asked differently.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@torch.inference_mode()
def _replies(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    seeds: list[int | None],
    *,
    limits: Limits,
    progress: Progress,
) -> list[Reply]:
    plain = without_adapter_wrapper(model)
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=limits.max_new_tokens,
        eos_token_id=limits.end_of_turn_ids,
        pad_token_id=limits.pad_token_id,
        use_cache=True,
    )
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    found: dict[int, Reply] = {}
    with neutral_generation(plain):
        for start in range(0, len(order), limits.batch_size):
            batch = order[start : start + limits.batch_size]
            ids_bt, mask_bt = _left_padded([prompts[i] for i in batch], limits.pad_token_id, plain.device)
            drawn = [seed for i in batch if (seed := seeds[i]) is not None]
            made_bt = plain.generate(
                input_ids=ids_bt,
                attention_mask=mask_bt,
                generation_config=config,
                logits_processor=LogitsProcessorList([GumbelNoise(drawn)] if drawn else []),
            )
            for i, ids in zip(batch, made_bt[:, ids_bt.shape[1] :].tolist(), strict=True):
                found[i] = _reply(ids, limits.end_of_turn_ids)
            progress(start + len(batch), len(order))
    return [found[i] for i in range(len(prompts))]


def _reply(ids: list[int], end_of_turn_ids: list[int]) -> Reply:
    for place, token in enumerate(ids):
        if token in end_of_turn_ids:
            return Reply(ids[:place], stopped=True)
    return Reply(ids, stopped=False)


def _left_padded(prompts: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask: (batch, tokens) each."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
