"""Drift from the base: the divergence by hand in float64, and the distance of weights from merged models."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from harness.evaluation.drift import kl_to_base
from harness.evaluation.weights import LayerChange, overall, weight_changes
from tests.harness.evaluation import tiny_models
from tests.harness.evaluation.test_logprobs import ITEMS


@torch.no_grad()
def by_hand(
    model: PreTrainedModel, base: PreTrainedModel, prompt: list[int], reply: list[int]
) -> torch.Tensor:
    """The sum over the whole vocabulary, one sequence without padding: (reply tokens,)."""
    ids = torch.tensor([prompt + reply])
    places = slice(len(prompt) - 1, len(prompt) + len(reply) - 1)
    ours, theirs = (torch.log_softmax(one(ids).logits[0, places].double(), dim=-1) for one in (model, base))
    return (ours.exp() * (ours - theirs)).sum(-1)


@pytest.mark.parametrize("max_logits", [1, 10**9])
@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.bloom, tiny_models.gemma2])
def test_the_divergence_is_exact_over_the_vocabulary(make, max_logits: int) -> None:  # type: ignore[no-untyped-def]
    model, base = make(), make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    found = kl_to_base(model, base, ITEMS, batch_size=3, max_logits=max_logits)
    for item, replies in zip(ITEMS, found, strict=True):
        for reply, kl in zip(item.replies, replies, strict=True):
            torch.testing.assert_close(kl, by_hand(model, base, item.prompt_ids, reply), atol=1e-5, rtol=1e-4)
            assert float(kl.min()) > 0


def test_an_adapter_is_compared_with_itself_switched_off() -> None:
    model = tiny_models.llama_with_adapter()
    found = kl_to_base(model, None, ITEMS, batch_size=3)
    merged, base = tiny_models.llama_with_adapter().merge_and_unload(), tiny_models.llama()
    for item, replies in zip(ITEMS, found, strict=True):
        for reply, kl in zip(item.replies, replies, strict=True):
            torch.testing.assert_close(
                kl, by_hand(merged, base, item.prompt_ids, reply), atol=1e-4, rtol=1e-4
            )
    again = kl_to_base(model, None, ITEMS, batch_size=1)
    assert float(again[0][0][0]) == pytest.approx(float(found[0][0][0]), abs=1e-5)


def test_a_model_does_not_diverge_from_itself() -> None:
    found = kl_to_base(tiny_models.llama(), tiny_models.llama(), ITEMS, batch_size=3)
    assert max(float(kl.abs().max()) for replies in found for kl in replies) < 1e-6


def changes(model: PreTrainedModel, base: PreTrainedModel | None) -> dict[str, LayerChange]:
    return {layer.name: layer for layer in weight_changes(model, base)}


def test_the_distance_of_weights_is_the_relative_norm_by_layer_and_overall() -> None:
    base, model = tiny_models.llama(), tiny_models.llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight += 0.1
        model.lm_head.weight *= 1.5
    found = changes(model, base)
    assert list(found) == ["embed_tokens", "layer 0", "layer 1", "norm", "lm_head"]
    assert found["layer 0"].relative == found["embed_tokens"].relative == 0
    assert found["lm_head"].relative == pytest.approx(0.5)
    layer = torch.cat([weight.detach().flatten() for weight in base.model.layers[1].parameters()]).double()
    assert found["layer 1"].relative == pytest.approx(0.1 * (24 * 16) ** 0.5 / float(layer.norm()), rel=1e-5)
    everything = torch.cat([weight.detach().flatten() for weight in base.parameters()]).double()
    moved = torch.cat([weight.detach().flatten() for weight in model.parameters()]).double()
    assert overall(list(found.values())).relative == pytest.approx(
        float((moved - everything).norm() / everything.norm()), rel=1e-5
    )


def test_the_distance_of_an_adapter_is_that_of_the_merged_model() -> None:
    found = changes(tiny_models.llama_with_adapter(), None)
    merged = changes(tiny_models.llama_with_adapter().merge_and_unload(), tiny_models.llama())
    assert list(found) == list(merged)
    for name, layer in merged.items():
        assert found[name].num_parameters == layer.num_parameters
        assert found[name].base_norm == pytest.approx(layer.base_norm, rel=1e-6)
        assert found[name].change_norm == pytest.approx(layer.change_norm, rel=1e-4)
    assert found["layer 0"].change_norm > 0


def test_tied_weights_count_once() -> None:
    base, model = tiny_models.tied(), tiny_models.tied()
    with torch.no_grad():
        model.lm_head.weight *= 2
    found = changes(model, base)
    assert "lm_head" not in found
    assert found["embed_tokens"].relative == pytest.approx(1)


def test_a_layer_that_was_zero_and_moved_has_no_relative_change() -> None:
    assert LayerChange("bias", 1, 0.0, 0.0).relative == 0
    assert LayerChange("bias", 1, 0.0, 1.0).relative is None


def test_an_adapter_on_an_embedding_has_a_distance_as_well() -> None:
    config = LoraConfig(
        r=4, target_modules=["embed_tokens", "q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = get_peft_model(tiny_models.llama(), config)
    found = changes(model, None)
    merged, base = model.merge_and_unload(), tiny_models.llama()
    for name, change in changes(merged, base).items():
        assert found[name].relative == pytest.approx(change.relative, rel=1e-4)
    distance = found["embed_tokens"].relative
    assert distance is not None
    assert distance > 0
