"""Replies of a model to prompts, greedy or sampled, the same whatever batch a prompt stands in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from harness.evaluation.logprobs import Progress
from harness.evaluation.reading import without_adapter_wrapper
from pipelines.errors import PipelineError
from pipelines.positions import num_positions

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

NEAR_TIE = 1e-4  # nats; rounding in float32 moves a logit by less


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        ids: The reply's tokens, its end of turn not among them.
        stopped: Whether it ended by itself; else it was cut.
        near_ties: Places, that of the end of turn among them, where the two likeliest tokens lie within `NEAR_TIE`. In float32
            a greedy reply may depend on the batch around it there, and nowhere else.
    """

    ids: list[int]
    stopped: bool
    near_ties: int = field(default=0, compare=False)


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
    """The likeliest token at each place. In the order of `prompts`, which are token ids.

    Raises:
        PipelineError: the longest prompt and a reply of `max_new_tokens` need more positions than the model has.
    """
    return _replies(model, prompts, [None] * len(prompts), limits=limits, progress=progress)


def sampled_replies(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    limits: Limits,
    *,
    seeds: list[int],
    temperature: float = 1.0,
    progress: Progress = lambda done, total: None,
) -> list[Reply]:
    """One reply a prompt, its tokens drawn from softmax(logits / temperature) with the prompt's own seed.

    Raises:
        PipelineError: as for `greedy_replies`.
    """
    return _replies(model, prompts, list(seeds), limits=limits, temperature=temperature, progress=progress)


def item_seed(seed: int, uid: str) -> int:
    """The seed of one item's sample. It knows nothing of the model: the same noise meets every model."""
    return int.from_bytes(hashlib.sha256(f"{seed} {uid}".encode()).digest()[:8], "big") >> 1


class NearTies(LogitsProcessor):  # type: ignore[misc]
    """Notes where the two greatest logits are nearly equal; changes none."""

    def __init__(self) -> None:
        self._found: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (batch, vocabulary) as they are."""
        best = scores.float().topk(2, dim=1).values
        self._found.append(best[:, 0] - best[:, 1] <= NEAR_TIE)
        return scores

    def counts(self, lengths: list[int]) -> list[int]:
        """Of each row of the batch, how many of its first places are near ties.

        Args:
            lengths: How many places of each row count.
        """
        found_bt = torch.stack(self._found, dim=1).cpu()
        return [int(row[:length].sum()) for row, length in zip(found_bt, lengths, strict=True)]


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise to the logits, so that the greatest one is a sample of softmax(logits / temperature).

    Each row draws from its own generator, once a step, so its noise does not depend on the rows beside it.

    Args:
        seeds: Of each row.
        temperature: Above 0. The noise is multiplied by it, which leaves the same order as dividing the logits.

    References:
        Maddison, Tarlow and Minka 2014, "A* Sampling", section 2 (the Gumbel-max trick).
    """

    def __init__(self, seeds: list[int], temperature: float = 1.0) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (batch, vocabulary) plus noise."""
        exponential = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=own) for own in self._generators]
        )
        return scores - self._temperature * exponential.log().to(scores.device)


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
    temperature: float = 1.0,
) -> list[Reply]:
    plain = without_adapter_wrapper(model)
    _check_room(plain, longest=max(map(len, prompts), default=0), max_new_tokens=limits.max_new_tokens)
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
            noise = [GumbelNoise(drawn, temperature)] if drawn else []
            ties = NearTies()  # before the noise: of a sample, they are those of its softmax
            made_bt = plain.generate(
                input_ids=ids_bt,
                attention_mask=mask_bt,
                generation_config=config,
                logits_processor=LogitsProcessorList([ties, *noise]),
            )
            made = [_reply(ids, limits.end_of_turn_ids) for ids in made_bt[:, ids_bt.shape[1] :].tolist()]
            counts = ties.counts([len(reply.ids) + reply.stopped for reply in made])
            for i, reply, near_ties in zip(batch, made, counts, strict=True):
                found[i] = replace(reply, near_ties=near_ties)
            progress(start + len(batch), len(order))
    return [found[i] for i in range(len(prompts))]


def _check_room(model: PreTrainedModel, *, longest: int, max_new_tokens: int) -> None:
    positions = num_positions(model)
    if longest + max_new_tokens <= positions:
        return
    room = positions - longest
    advice = f"Use at most {room:.0f}" if room > 0 else "None fits: use a smaller training.max_length"
    raise PipelineError(
        f"max_new_tokens: the longest prompt ({longest} tokens) and a reply must fit the model's {positions:.0f} learnt "
        f"positions, got {max_new_tokens}. {advice}"
    )


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
