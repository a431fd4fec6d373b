"""What training holds and computes, by the model alone: bytes of its long-lived tensors, operations by formula."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers.pytorch_utils import Conv1D

from pipelines.outcomes import TensorBytes, Work
from pipelines.training.watching import TokenCount

if TYPE_CHECKING:
    from transformers import Trainer

LAYERS = ("full_attention", "sliding_attention")
# Weights outside of matrix products and embeddings: norms and biases.
OTHER_WEIGHTS = 0.02


def tensor_bytes(trainer: Trainer, reference_model: torch.nn.Module | None) -> TensorBytes:
    """Bytes of what a trainer held all along, each tensor once, tied weights once.

    Args:
        trainer: After training, with its optimizer.
        reference_model: DPO's second model, where it has one.
    """
    named = list(trainer.model.named_parameters())
    return TensorBytes(
        weights=_bytes(weight for name, weight in named if "lora_" not in name),
        adapter=_bytes(weight for name, weight in named if "lora_" in name),
        reference=0 if reference_model is None else _bytes(reference_model.parameters()),
        # As large as what they belong to, from the backward pass to the optimizer's step.
        gradients=_bytes(weight for _, weight in named if weight.requires_grad),
        optimizer=_bytes(_tensors(list(trainer.optimizer.state.values()))),
    )


def work_of(model: torch.nn.Module, counted: TokenCount) -> Work:
    """Operations that the model's formula needs for the tokens that it received, without padding and recomputation.

    A multiplication and an addition are two operations. With P weights in matrix products, of which T are trained, a token
    takes 2 P forward, 2 P backward to its inputs and 2 T backward to weights. Attention in a layer of width w over l tokens takes
    4 w l^2 forward and twice that backward, as if no position were masked.

    Args:
        model: The policy; a reference has the same shape.
        counted: What policy and reference received.

    References:
        Chowdhery et al. 2022 (arXiv 2204.02311), appendix B, there for training all weights.
    """
    whole: Any = model.config
    config = whole.get_text_config()
    matrices = list(_matrices(model))
    if reason := _unknown_shape(model, config, matrices):
        return Work(operations=None, reason=reason)
    all_weights = sum(_size(matrix) for matrix in matrices)
    trained = sum(_size(matrix) for matrix in matrices if matrix.weight.requires_grad)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    attention = 4 * width * config.num_hidden_layers
    policy = (4 * all_weights + 2 * trained) * counted.num_policy_tokens
    reference = 2 * all_weights * counted.num_reference_tokens
    squares = 3 * counted.policy_length_squares + counted.reference_length_squares
    return Work(operations=float(policy + reference + attention * squares))


def _unknown_shape(model: torch.nn.Module, config: Any, matrices: list[Any]) -> str | None:
    """Why the formula is not this model's, or None."""
    if getattr(config, "num_experts_per_tok", None):
        return "the formula does not know which experts a token goes through"
    for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"):
        if not isinstance(getattr(config, name, None), int):
            return f"the model's config has no {name}"
    if others := set(getattr(config, "layer_types", None) or ()) - set(LAYERS):
        return f"the formula does not know layers of type {', '.join(sorted(others))}"
    known = {id(matrix.weight) for matrix in matrices}
    known |= {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    weights = list(model.parameters())
    outside = sum(weight.numel() for weight in weights if id(weight) not in known)
    if outside > OTHER_WEIGHTS * sum(weight.numel() for weight in weights):
        return "the model has weights outside of linear layers and embeddings"
    return None


def _matrices(model: torch.nn.Module) -> Iterator[Any]:
    """Linear layers that a token goes through; not the frozen copy of an adapter, which stands in for the trained one."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and (
            "lora_" not in name or module.weight.requires_grad
        ):
            yield module


def _size(matrix: Any) -> int:
    """Weights of a linear layer; of a 4-bit one, too, whose tensor holds two in a byte."""
    if isinstance(matrix, Conv1D):
        return int(matrix.weight.numel())
    return int(matrix.in_features * matrix.out_features)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested dicts and lists, as optimizers keep their states."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict):
        yield from _tensors(list(held.values()))
    elif isinstance(held, list | tuple):
        for each in held:
            yield from _tensors(each)
