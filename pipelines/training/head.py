"""A causal language model's body and head apart: the hidden states of a forward pass, and what makes logits of them.

Shapes: b sequences, t tokens, h hidden, v vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.errors import PipelineError
from pipelines.training.token_logprobs import Head, token_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 16
# Hidden states are blown up for the probe: a cap on the logits bends only large ones visibly.
PROBE_SCALE = 100.0


@contextmanager
def last_hidden_state(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """What the model's body hands to its head in the forward pass inside this context: (b, t, h), in a list."""
    kept: list[Tensor] = []
    hook = model.base_model.register_forward_hook(
        lambda _module, _args, output: kept.append(output.last_hidden_state)
    )
    try:
        yield kept
    finally:
        hook.remove()


def head_of(model: PreTrainedModel) -> Head:
    """The output layer, and the scale and cap that transformers' models put behind it."""
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)  # Cohere multiplies by it; None in MPT, which does not scale
    divisor = getattr(config, "logits_scaling", None)  # Granite divides by it
    return Head(
        layer.weight,
        layer.bias,
        scale=(1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor)),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Try on a few tokens whether `head_of` gives the model's own log-probs.

    Raises:
        PipelineError: it does not, or the model cannot be asked for the last place's logits alone.
    """
    instead = "Use `implementation: trl` for this model."
    layer = model.get_output_embeddings()
    if type(layer) is not torch.nn.Linear:
        raise PipelineError(
            f"implementation: fused needs a plain output layer, got {type(layer).__name__} (an adapter on it, or "
            f"quantized weights). {instead}"
        )
    if "logits_to_keep" not in inspect.signature(type(model).forward).parameters:
        raise PipelineError(f"implementation: fused needs a model that takes `logits_to_keep`. {instead}")
    if getattr(model.config.get_text_config(), "output_router_logits", False):
        raise PipelineError(f"implementation: fused has no load-balancing loss for experts. {instead}")
    ids_bt = torch.arange(PROBE_TOKENS, device=layer.weight.device)[None] % len(layer.weight)

    def blow_up(_module: torch.nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state * PROBE_SCALE
        return output

    hook = model.base_model.register_forward_hook(blow_up)
    try:
        with last_hidden_state(model) as kept:
            # Past `__call__`: hooks that count what the model receives shall not count this.
            logits_btv = model.forward(input_ids=ids_bt, use_cache=False).logits
    finally:
        hook.remove()
    own_t = torch.log_softmax(logits_btv[0].to(torch.float32), dim=-1).gather(1, ids_bt.T)[:, 0]
    fused_t = token_logprobs(kept[0][0], head_of(model), ids_bt[0])
    close = 1e-4 if layer.weight.dtype == torch.float32 else 5e-2
    if not torch.allclose(own_t, fused_t.float(), rtol=close, atol=close):
        raise PipelineError(
            f"implementation: fused does not give this model's log-probs: it changes its logits in a way that is not "
            f"known here ({type(model).__name__}). {instead}"
        )
