"""Log-probs in chunks of the vocabulary: the values, their gradients, and that the logits are never held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.training.token_logprobs import Head, token_logprobs

TOKENS, HIDDEN, VOCABULARY = 7, 5, 23


def made(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.tensor([0, VOCABULARY - 1, 3, 3, 8, 15, 16])
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def by_hand(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.log_softmax(logits, dim=-1)[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("max_logits", [1, 4 * TOKENS, 10**6])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, None), (1.7, 2.0)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_a_whole_log_softmax(
    with_bias: bool, scale: float, softcap: float | None, max_logits: int
) -> None:
    hidden, weight, bias, targets = made()
    head = Head(weight, bias if with_bias else None, scale=scale, softcap=softcap)
    inputs = [hidden, weight, *([bias] if with_bias else [])]
    pulls = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    found, expected = (
        (values, torch.autograd.grad(values, inputs, pulls))
        for values in (
            token_logprobs(hidden, head, targets, max_logits=max_logits),
            by_hand(hidden, head, targets),
        )
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_agrees_with_finite_differences() -> None:
    hidden, weight, bias, targets = made()

    def values(*inputs: torch.Tensor) -> torch.Tensor:
        return token_logprobs(inputs[0], Head(inputs[1], inputs[2], 0.8, 3.0), targets, max_logits=4 * TOKENS)

    assert torch.autograd.gradcheck(values, (hidden, weight, bias))


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, _, targets = made()
    token_logprobs(hidden, Head(weight.detach()), targets).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_no_tokens_give_no_logprobs_and_a_zero_gradient() -> None:
    hidden, weight, _, targets = made()
    values = token_logprobs(hidden[:0], Head(weight), targets[:0])
    values.sum().backward()
    assert values.shape == (0,)
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_rounds_the_products_and_nothing_else(autocast: bool) -> None:
    """Under autocast weights are float32 and products bfloat16; without, both are bfloat16."""
    hidden, weight, _, targets = made(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = token_logprobs(hidden, Head(weight), targets, max_logits=4 * TOKENS)
    logits = (hidden.bfloat16() @ weight.bfloat16().T).float()
    expected = torch.log_softmax(logits, dim=-1)[torch.arange(TOKENS), targets]
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == weight.dtype


def test_nothing_as_large_as_the_logits_is_ever_made() -> None:
    tokens, vocabulary, hidden_size, limit = 64, 1000, 4, 6400

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                Largest.size = max(Largest.size, made.numel())
            return made

    hidden = torch.randn(tokens, hidden_size, requires_grad=True)
    weight = torch.randn(vocabulary, hidden_size, requires_grad=True)
    targets = torch.arange(tokens)
    with Largest():
        token_logprobs(hidden, Head(weight), targets, max_logits=limit).sum().backward()
    assert Largest.size == limit < tokens * vocabulary
