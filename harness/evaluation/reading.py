"""Reads a model's predictions of given replies, the fastest way that is right for this model.

Shapes: b rows, t tokens, h hidden, c reply tokens of a batch, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from torch import Tensor

from harness.evaluation.packing import Packed, Prompted, apart, attention_mask, batches, together
from pipelines.positions import require_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils import ModelOutput

# Logits held at once, by kind of device: as many as a CPU's cache likes, and as a GPU can work on.
MAX_LOGITS = {"cpu": 2**23, "cuda": 2**26}
PROBE_TOKENS = 16
# Attention that takes any mask of (b, 1, t, t); flash attention does not.
FREE_MASKS = ("sdpa", "eager")
# Config keys that limit how far back a token sees; within the limit, attention is plain.
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
# Rotary embeddings whose frequencies follow the longest sequence of a forward pass, and of those before it (`rope_type`).
BY_LENGTH = ("longrope", "dynamic")
# Mean absolute difference in nats per token by which two right ways may round differently.
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 3e-2, torch.float16: 3e-3}
# What a model raises that cannot be asked in the way that is tried on it.
REFUSALS = (TypeError, ValueError, AttributeError, KeyError, IndexError, NotImplementedError, RuntimeError)


def without_adapter_wrapper(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (its adapter stays active), or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class Reader:
    """The logits by which a model predicts each token of given replies.

    Attributes:
        shares_prompts: A prompt is computed once for all its replies, in one row.
        window: Longest prompt with a reply that may be read so; longer items take a row for each reply.
        rows_at_once: How many rows of logits may be held.
        tried: Positions of items that were read to find this out, with the log-probs of their reply tokens, (c,).
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, items: list[Prompted], *, max_logits: int | None = None
    ) -> None:
        """Find out what is right for `model` by trying it on the longest of `items`.

        Args:
            model: A causal language model in eval mode.
            items: What will be read.
            max_logits: Logits that may be held at once; `MAX_LOGITS` if None.
        """
        self.model = without_adapter_wrapper(model)
        replies = (len(item.prompt_ids) + max(map(len, item.replies), default=0) for item in items)
        require_positions(self.model, max(replies, default=0))
        self.rows_at_once = _rows_at_once(self.model, max_logits)
        self.window = _window(self.model)
        self.tried: dict[int, Tensor] = {}
        self._stretched = _is_stretched(self.model, items)
        self._output = None if self._stretched else _output_of_body(self.model)
        self.shares_prompts = self.through_body and self._sharing_is_right(items)

    @property
    def through_body(self) -> bool:
        """Whether body and what follows it (output embedding, a scale, a cap) run apart, the latter on reply tokens only.

        Else the whole model runs on one reply at a time.
        """
        return self._output is not None

    def batches(
        self, items: list[Prompted], batch_size: int, *, but: Collection[int] = ()
    ) -> Iterator[list[int]]:
        """Positions in `items` of the items of each batch, `but` these: all of them share their prompts, or none does."""
        if not self.through_body:  # then the logits of a whole batch are held
            batch_size = 1
        wanted = [place for place in range(len(items)) if place not in but]
        sharing = [place for place in wanted if self._shares(items[place])]
        others = [place for place in wanted if not self._shares(items[place])]
        yield from batches(items, batch_size, lambda item: item.shared_length, among=sharing)
        yield from batches(items, batch_size, lambda item: item.longest, among=others)

    def states(self, batch: list[Prompted]) -> tuple[Tensor, Tensor]:
        """What `logits` needs for every reply token of a batch, item by item and reply by reply, and the tokens.

        Returns:
            (c, h), or (c, v) where the whole model has to be asked; and (c,).
        """
        if self.through_body:
            return self._states_of_body(batch, sharing=all(map(self._shares, batch)))
        return self._whole_logits(batch)

    def logits(self, states_cx: Tensor) -> Tensor:
        """The model's logits for some of the rows that `states` gave: (c, v), in float32 at least."""
        if self._output is not None:
            states_cx = logits_after_body(self.model, states_cx, self._output)
        return states_cx if states_cx.dtype == torch.float64 else states_cx.float()

    def target_logprobs(self, states_cx: Tensor, targets_c: Tensor) -> Tensor:
        """Log-softmax of the logits at the target tokens, in nats: (c,)."""
        found = []
        for states, targets in zip(
            torch.split(states_cx, self.rows_at_once), torch.split(targets_c, self.rows_at_once), strict=True
        ):
            logits_cv = self.logits(states)
            found.append(logits_cv.gather(1, targets[:, None])[:, 0] - logits_cv.logsumexp(dim=1))
        return torch.cat(found)

    def _shares(self, item: Prompted) -> bool:
        return self.shares_prompts and len(item.replies) > 1 and item.longest <= self.window

    def _states_of_body(self, batch: list[Prompted], *, sharing: bool) -> tuple[Tensor, Tensor]:
        packed = together(batch, self.model.device) if sharing else apart(batch, self.model.device)
        # A row of one reply needs no mask: attention is causal and padding stands behind.
        more = _sharing_arguments(packed, self.model.dtype) if sharing else {}
        hidden_bth = self.model.get_decoder()(
            input_ids=packed.ids_bt, use_cache=False, **more
        ).last_hidden_state
        return hidden_bth[packed.rows_c, packed.places_c], packed.targets_c

    def _whole_logits(self, batch: list[Prompted]) -> tuple[Tensor, Tensor]:
        logits, targets = [], []
        for item in batch:
            for reply in item.replies:
                packed = apart([Prompted(item.prompt_ids, [reply])], self.model.device)
                if self._stretched:  # back to the frequencies of short sequences, whatever was read before
                    self.model(input_ids=packed.ids_bt[:, :1], use_cache=False)
                logits_btv = self.model(input_ids=packed.ids_bt, use_cache=False).logits
                logits.append(logits_btv[packed.rows_c, packed.places_c])
                targets.append(packed.targets_c)
        return torch.cat(logits), torch.cat(targets)

    @torch.inference_mode()
    def _sharing_is_right(self, items: list[Prompted]) -> bool:
        """Whether both ways agree on the longest item that a row may hold."""
        fitting = [item for item in items if len(item.replies) > 1 and item.longest <= self.window]
        attention = getattr(self.model.config.get_text_config(), "_attn_implementation", None)
        if not fitting or attention not in FREE_MASKS:
            return False
        probe = max(fitting, key=lambda item: item.longest)

        def scores(*, sharing: bool) -> Tensor:
            return self.target_logprobs(*self._states_of_body([probe], sharing=sharing))

        try:
            apart_c = scores(sharing=False)
            self.tried[items.index(probe)] = apart_c
            difference = (scores(sharing=True) - apart_c).abs().mean()
        except REFUSALS as error:
            _raise_if_memory(error)
            return False
        return bool(difference <= ROUNDING[self.model.dtype])


def logits_after_body(model: PreTrainedModel, hidden_ch: Tensor, output: type[ModelOutput]) -> Tensor:
    """Everything that the model does after its body, whatever that is, on some hidden states: (c, v).

    Args:
        model: A causal language model.
        hidden_ch: What its body gave.
        output: What its body returns them in.
    """
    body = model.get_decoder()
    ids_bt = torch.zeros(1, len(hidden_ch), dtype=torch.long, device=hidden_ch.device)
    own = vars(body).get("forward")  # a wrapper that a library put on this instance, if any
    body.forward = lambda *_, **__: output(last_hidden_state=hidden_ch[None])
    try:
        logits_bcv: Tensor = model(input_ids=ids_bt, use_cache=False).logits
    finally:
        del body.forward
        if own is not None:
            body.forward = own
    return logits_bcv[0]


@torch.inference_mode()
def _output_of_body(model: PreTrainedModel) -> type[ModelOutput] | None:
    """What the body returns, where body and rest one after the other give the model's own logits, else None.

    Tried on a few tokens, since no attribute says it.
    """
    ids_bt = torch.arange(PROBE_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
    logits_btv = model(input_ids=ids_bt, use_cache=False).logits
    try:
        found = model.get_decoder()(input_ids=ids_bt, use_cache=False)
        after_btv = logits_after_body(model, found.last_hidden_state[0], type(found))
        return type(found) if torch.equal(after_btv, logits_btv[0]) else None
    except REFUSALS as error:
        _raise_if_memory(error)
        return None


def _sharing_arguments(packed: Packed, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "position_ids": packed.positions_bt,
        "attention_mask": attention_mask(packed.segments_bt, dtype),
    }


def _window(model: PreTrainedModel) -> float:
    config = model.config.get_text_config()
    sizes = [getattr(config, name, None) for name in WINDOWS]
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=math.inf)


def _is_stretched(model: PreTrainedModel, items: list[Prompted]) -> bool:
    """Whether an item is so long that its frequencies would be those of all that is read beside it."""
    config = model.config.get_text_config()
    found = getattr(config, "rope_parameters", None) or {}
    ropes = [found] if "rope_type" in found else [rope for rope in found.values() if isinstance(rope, dict)]
    limits = [
        rope.get("original_max_position_embeddings") or config.max_position_embeddings
        for rope in ropes
        if any(kind in str(rope.get("rope_type")) for kind in BY_LENGTH)
    ]
    return bool(limits) and max((item.longest for item in items), default=0) >= min(limits)


def _rows_at_once(model: PreTrainedModel, max_logits: int | None) -> int:
    allowed = max_logits or MAX_LOGITS.get(model.device.type, MAX_LOGITS["cuda"])
    vocabulary: int = model.config.get_text_config().vocab_size
    return max(1, allowed // vocabulary)


def _raise_if_memory(error: Exception) -> None:
    """A lack of memory says nothing of what the model can do."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        raise error
