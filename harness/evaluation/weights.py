"""How far a model's weights have moved from its base: the norm of the change, overall and by layer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_PARTS = re.compile(r"\.lora_|\.modules_to_save\.")


@dataclass(frozen=True)
class LayerChange:
    """The weights of one layer, or of what stands outside of them such as an embedding.

    Attributes:
        name: `layer 3`, or the module's own name.
        num_parameters: Of the base; tied weights count once.
        base_norm: Frobenius norm of the base's weights.
        change_norm: The same of the change.
    """

    name: str
    num_parameters: int
    base_norm: float
    change_norm: float

    @property
    def relative(self) -> float | None:
        """Norm of the change over that of the base; None where a base of zeros has moved, infinitely far."""
        if self.base_norm == 0:
            return 0.0 if self.change_norm == 0 else None
        return self.change_norm / self.base_norm


@torch.inference_mode()
def weight_changes(model: PreTrainedModel | PeftModel, base: PreTrainedModel | None) -> list[LayerChange]:
    """The change of each layer, in the order of the model.

    Args:
        model: The trained model.
        base: What it was trained from; None for an adapter, which holds its base. Its change is the merged update.
    """
    sizes: dict[str, list[float]] = {}  # by layer: parameters, squared norm of the base, of the change
    for name, weight, change in _adapted(model) if isinstance(model, PeftModel) else _trained(model, base):
        found = sizes.setdefault(_layer(name), [0, 0.0, 0.0])
        found[0] += weight.numel()
        found[1] += _squared_norm(weight)
        found[2] += 0.0 if change is None else _squared_norm(change)
    return [
        LayerChange(layer, int(count), math.sqrt(weight), math.sqrt(change))
        for layer, (count, weight, change) in sizes.items()
    ]


def overall(layers: list[LayerChange]) -> LayerChange:
    """All layers as one."""
    return LayerChange(
        "all",
        sum(layer.num_parameters for layer in layers),
        math.hypot(*(layer.base_norm for layer in layers)),
        math.hypot(*(layer.change_norm for layer in layers)),
    )


def _trained(
    model: PreTrainedModel, base: PreTrainedModel | None
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    assert base is not None
    before = dict(base.named_parameters())
    for name, weight in model.named_parameters():
        yield name, before[name], weight.float() - before[name].float()


def _adapted(model: PeftModel) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    changes: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            held = {
                *module.lora_A,
                *module.lora_embedding_A,
            }  # an embedding's is kept apart from a linear layer's
            active = [adapter for adapter in module.active_adapters if adapter in held]
            if active:
                changes[name] = sum(module.get_delta_weight(adapter).float() for adapter in active)
    for name, weight in model.named_parameters():
        if not ADAPTER_PARTS.search(name):
            yield name, weight, changes.get(name.removesuffix(".base_layer.weight"))


def _layer(name: str) -> str:
    number = re.search(r"\.(\d+)\.", name)
    return f"layer {number.group(1)}" if number else name.replace(".base_layer", "").split(".")[-2]


def _squared_norm(weight: Tensor) -> float:
    return float(weight.float().square().sum(dtype=torch.float64))
