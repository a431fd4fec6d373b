"""Log-probs of given tokens without ever holding the (tokens, vocabulary) logits, forwards or backwards.

Shapes: n tokens, h hidden, v vocabulary, c a chunk of the vocabulary.

The vocabulary is walked in chunks, twice: forwards for each token's log-sum-exp, backwards to recompute a chunk's logits
and turn them into its gradient at once. Chunks of the vocabulary, not of the tokens, because then each row of the
head's gradient is written once: nothing is accumulated in the weights' own precision, nor read and written over again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits held at once: 2**22 float32 numbers are 16 MiB; other sizes differ little (docs/decisions/fused-orpo.md).
MAX_LOGITS = 2**22


@dataclass(frozen=True)
class Head:
    """A model's output layer and what it does to the logits after it.

    Attributes:
        weight: (v, h).
        bias: (v,), or None.
        scale: Factor of the logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
        softcap: Logits are bent to `softcap * tanh(logits / softcap)` (Gemma), after the scale; None: they are not.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


def token_logprobs(
    hidden_nh: Tensor, head: Head, targets_n: Tensor, *, max_logits: int = MAX_LOGITS
) -> Tensor:
    """Log-prob of each target under the head's softmax at its hidden state, differentiable once.

    Args:
        hidden_nh: (n, h). Under autocast the products are computed in autocast's type, else in the weight's.
        head: The output layer.
        targets_n: Token ids, (n,).
        max_logits: Logits that may be held at once; the result does not depend on it but for rounding.

    Returns:
        Nats, float32 (float64 for float64 weights): (n,).
    """
    device = hidden_nh.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    chunk = max(1, max_logits // max(1, len(targets_n)))
    logprobs: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_nh, head.weight, head.bias, targets_n, head.scale, head.softcap, dtype, chunk
    )
    return logprobs


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        bias_v: Tensor | None,
        targets_n: Tensor,
        scale: float,
        softcap: float | None,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        walk = _Walk(hidden_nh, weight_vh, bias_v, targets_n, scale, softcap, dtype, chunk)
        logsumexp_n = torch.full_like(targets_n, -torch.inf, dtype=walk.exact)
        target_logit_n = torch.zeros_like(logsumexp_n)
        for rows, logits_nc in walk.logits():
            places_n, here_n = walk.targets_in(rows)
            found_n = logits_nc.gather(1, places_n[:, None])[:, 0]
            target_logit_n = torch.where(here_n, found_n, target_logit_n)
            largest_n = logits_nc.amax(dim=1)
            # In place: `logsumexp` would hold the chunk twice.
            sum_n = logits_nc.sub_(largest_n[:, None]).exp_().sum(dim=1)
            logsumexp_n = torch.logaddexp(logsumexp_n, sum_n.log() + largest_n)
        ctx.save_for_backward(hidden_nh, weight_vh, bias_v, targets_n, logsumexp_n)
        ctx.how = (scale, softcap, dtype, chunk)
        return target_logit_n - logsumexp_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_n: Tensor) -> tuple[Tensor | None, ...]:
        hidden_nh, weight_vh, bias_v, targets_n, logsumexp_n = ctx.saved_tensors
        scale, softcap, dtype, chunk = ctx.how
        walk = _Walk(hidden_nh, weight_vh, bias_v, targets_n, scale, softcap, dtype, chunk)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden_nh = torch.zeros_like(hidden_nh, dtype=walk.exact) if wants_hidden else None
        grad_weight_vh = torch.empty_like(weight_vh) if wants_weight else None
        grad_bias_v = torch.empty_like(bias_v) if bias_v is not None and wants_bias else None
        for rows, logits_nc in walk.logits():
            slope_nc = None if softcap is None else 1 - (logits_nc / softcap).square()
            # d logprob / d logits is (1 at the target) - softmax.
            grad_nc = logits_nc.sub_(logsumexp_n[:, None]).exp_().mul_(-grad_n[:, None])
            places_n, here_n = walk.targets_in(rows)
            grad_nc.scatter_add_(1, places_n[:, None], (grad_n * here_n)[:, None])
            if slope_nc is not None:
                grad_nc.mul_(slope_nc)
            if scale != 1.0:
                grad_nc.mul_(scale)
            if grad_bias_v is not None:
                grad_bias_v[rows] = grad_nc.sum(dim=0).to(grad_bias_v.dtype)
            grad_nc = grad_nc.to(dtype)
            if grad_hidden_nh is not None:
                grad_hidden_nh += grad_nc @ weight_vh[rows].to(dtype)
            if grad_weight_vh is not None:
                grad_weight_vh[rows] = grad_nc.T @ walk.hidden_nh
        grad_hidden = None if grad_hidden_nh is None else grad_hidden_nh.to(hidden_nh.dtype)
        return grad_hidden, grad_weight_vh, grad_bias_v, None, None, None, None, None


class _Walk:
    """The vocabulary chunk by chunk: logits in `exact` precision, the products behind them in `dtype`."""

    def __init__(
        self,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        bias_v: Tensor | None,
        targets_n: Tensor,
        scale: float,
        softcap: float | None,
        dtype: torch.dtype,
        chunk: int,
    ) -> None:
        self.hidden_nh = hidden_nh.to(dtype)
        self.exact = torch.promote_types(dtype, torch.float32)
        self._weight_vh, self._bias_v, self._targets_n = weight_vh, bias_v, targets_n
        self._scale, self._softcap, self._chunk = scale, softcap, chunk

    def logits(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the head and their logits, which the caller may overwrite: (n, c)."""
        for start in range(0, len(self._weight_vh), self._chunk):
            rows = slice(start, min(start + self._chunk, len(self._weight_vh)))
            logits_nc = self.hidden_nh @ self._weight_vh[rows].to(self.hidden_nh.dtype).T
            logits_nc = logits_nc.to(self.exact)
            if self._bias_v is not None:
                logits_nc += self._bias_v[rows]
            if self._scale != 1.0:
                logits_nc *= self._scale
            if self._softcap is not None:
                logits_nc = logits_nc.div_(self._softcap).tanh_().mul_(self._softcap)
            yield rows, logits_nc

    def targets_in(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Each target's place within the chunk, 0 where it is outside, and whether it is inside: (n,) each."""
        here_n = (self._targets_n >= rows.start) & (self._targets_n < rows.stop)
        return torch.where(here_n, self._targets_n - rows.start, 0), here_n
