"""The three losses by hand in float64, one sequence at a time, without padding: what every trainer is held against."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]
Gradients = dict[str, Tensor]


def in_float64(model: torch.nn.Module) -> torch.nn.Module:
    """A copy with the class' own forward pass: TRL patches the instance's, and a patch stays bound to the original."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        module.__dict__.pop("forward", None)
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks_with_kwargs.clear()
    return copied.double()


def logprobs(model: torch.nn.Module, prompt: list[int], completion: list[int]) -> Tensor:
    """Log-probs of the completion's tokens: (tokens,)."""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids).logits[0, :-1]
    taken = torch.log_softmax(logits, dim=-1)[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    return taken[len(prompt) - 1 :]


def nll_token_mean(model: torch.nn.Module, rows: list[Row], nll: str) -> Tensor:
    """Over all tokens of all rows: long replies weigh more than short ones."""
    parts = [
        logprobs(model, row["prompt_ids"], row["chosen_ids"])
        if nll == "completion"
        else logprobs(model, row["prompt_ids"][:1], row["prompt_ids"][1:] + row["chosen_ids"])
        for row in rows
    ]
    return -torch.cat(parts).mean()


def odds_ratio(model: torch.nn.Module, rows: list[Row]) -> Tensor:
    """The mean over pairs of -log sigmoid(log odds ratio), arXiv 2403.07691, eqs. 4 to 7."""
    losses = []
    for row in rows:
        p_chosen = logprobs(model, row["prompt_ids"], row["chosen_ids"]).mean().exp()
        p_rejected = logprobs(model, row["prompt_ids"], row["rejected_ids"]).mean().exp()
        ratio = (p_chosen / (1 - p_chosen)) / (p_rejected / (1 - p_rejected))
        losses.append(-torch.log(torch.sigmoid(torch.log(ratio))))
    return torch.stack(losses).mean()


def orpo(
    model: torch.nn.Module, rows: list[Row], *, nll: str, beta: float, nll_weight: float = 1.0
) -> Tensor:
    return nll_weight * nll_token_mean(model, rows, nll) + beta * odds_ratio(model, rows)


def dpo(model: torch.nn.Module, rows: list[Row], *, reference: torch.nn.Module, beta: float) -> Tensor:
    """Equation 7 of arXiv 2305.18290: the mean over pairs."""
    losses = []
    for row in rows:
        ratios = []
        for side in ("chosen_ids", "rejected_ids"):
            with torch.no_grad():
                fixed = logprobs(reference, row["prompt_ids"], row[side]).sum()
            ratios.append(logprobs(model, row["prompt_ids"], row[side]).sum() - fixed)
        losses.append(-torch.log(torch.sigmoid(beta * (ratios[0] - ratios[1]))))
    return torch.stack(losses).mean()


def gradients(model: torch.nn.Module, loss: Tensor) -> Gradients:
    """Of every trained parameter, by name."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()))
    return dict(zip(trained, found, strict=True))


def relative_difference(found: Gradients, expected: Gradients) -> float:
    """Norm of the difference of all gradients by the norm of the expected ones."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[name].double() - expected[name]).square().sum()) for name in expected)
    size = sum(float(expected[name].double().square().sum()) for name in expected)
    return float((difference / size) ** 0.5)
