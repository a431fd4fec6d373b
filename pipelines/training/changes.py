"""How many of the trained weights a stage changed: bfloat16 weights lose updates smaller than half their last bit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Of larger models so many weights are looked at, evenly spread: 4 MiB, and a standard error of the share below 0.0005.
MAX_SAMPLED = 2**20


class ChangedWeights:
    """Keeps a sample of the trained weights as they are now, for a look at them later.

    Args:
        model: Only its parameters that require a gradient count.
        max_sampled: Weights that are looked at, about; all of them where the model has no more.
    """

    def __init__(self, model: torch.nn.Module, *, max_sampled: int = MAX_SAMPLED) -> None:
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        step = math.ceil(sum(parameter.numel() for parameter in self._trained) / max_sampled)
        # Odd: rows of weights have even lengths, and an even step would meet the same columns again and again.
        self._step = step | 1 if step > 1 else 1
        self._start = [self._sample(parameter) for parameter in self._trained]

    def share(self) -> float | None:
        """Share of the looked-at weights that now have another value; None where nothing is trained."""
        num_sampled = sum(start.numel() for start in self._start)
        changed = sum(
            int((self._sample(parameter) != start).sum())
            for parameter, start in zip(self._trained, self._start, strict=True)
        )
        return changed / num_sampled if num_sampled else None

    def _sample(self, parameter: Tensor) -> Tensor:
        return parameter.detach().reshape(-1)[:: self._step].clone()
