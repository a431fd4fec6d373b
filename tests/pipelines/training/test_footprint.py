"""What training holds and computes: bytes against the files and AdamW's own rule, operations against torch's counter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig
from transformers.models.mixtral import MixtralForCausalLM

from pipelines.training.footprint import work_of
from pipelines.training.train import train
from tests.pipelines.training import tiny

BATCH, LENGTH = 3, 11


def saved_bytes(folder: Path) -> int:
    """Bytes of all tensors in the folder's weights file."""
    with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
        return sum(file.get_tensor(name).numel() * 4 for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("kind", "tuning", "reference"),
    [("sft", "full", None), ("dpo", "full", "copy"), ("dpo", "lora", "adapter"), ("sft", "lora", None)],
)
def test_bytes_of_weights_gradients_states_and_reference_are_counted(
    tmp_path: Path, kind: str, tuning: str, reference: str | None
) -> None:
    tiny.make_inputs(tmp_path)
    stage = tiny.stage(kind, tuning=tuning, reference=reference, num_train_epochs=1)
    held = train(stage, tiny.folder_of(tmp_path, stage), tiny.Silent()).tensor_bytes
    assert held is not None
    base = saved_bytes(tmp_path / tiny.BASE / "model")
    trained = saved_bytes(tmp_path / stage.id / "model")
    assert held.weights == base
    assert held.gradients == trained
    # AdamW keeps two states as large as each tensor, and its number of steps, a float of 4 bytes for each tensor.
    assert (held.optimizer - 2 * trained) % 4 == 0
    assert 0 < held.optimizer - 2 * trained < 4 * 200
    adapters = {("lora", None): 1, ("lora", "adapter"): 1}.get((tuning, reference), 0)
    assert held.adapter >= adapters * trained
    assert held.adapter % trained == 0 if adapters else held.adapter == 0
    assert held.reference == (base if reference == "copy" else 0)


def llama(**changes: Any) -> LlamaForCausalLM:
    shape = {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "attn_implementation": "eager",
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changes}))


def gpt2() -> GPT2LMHeadModel:
    shape = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "attn_implementation": "eager"}
    return GPT2LMHeadModel(GPT2Config(**shape))


def counted(policy: int, reference: int = 0) -> Any:
    """What `TokenCount` had counted after so many sequences of LENGTH tokens."""
    return SimpleNamespace(
        num_policy_tokens=policy * LENGTH,
        num_reference_tokens=reference * LENGTH,
        policy_length_squares=policy * LENGTH**2,
        reference_length_squares=reference * LENGTH**2,
    )


def operations_by_torch(model: torch.nn.Module, *, backward: bool) -> int:
    """Of one batch, by torch's own count of every operator."""
    ids = torch.randint(2, 50, (BATCH, LENGTH))
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        loss = model(input_ids=ids, use_cache=False).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "make", [llama, lambda: llama(tie_word_embeddings=True), lambda: llama(head_dim=6), gpt2],
    ids=["untied", "tied", "narrow heads", "gpt2"],
)  # fmt: skip
def test_the_formula_counts_what_torch_counts(make: Any) -> None:
    model = make()
    trained = work_of(model, counted(policy=BATCH)).operations
    assert trained == pytest.approx(operations_by_torch(model, backward=True), rel=0.01)
    reference = work_of(model, counted(policy=0, reference=BATCH)).operations
    assert reference == pytest.approx(operations_by_torch(model, backward=False), rel=0.01)


def test_frozen_weights_cost_no_gradient_of_their_own() -> None:
    model = get_peft_model(llama(), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    found = work_of(model, counted(policy=BATCH)).operations
    # The first layer's inputs need no gradient, which the formula does not know: 1 of 2 layers' three products at most.
    by_torch = operations_by_torch(model, backward=True)
    assert by_torch <= found <= 1.15 * by_torch
    assert found < 0.9 * work_of(llama(), counted(policy=BATCH)).operations


def test_a_model_that_the_formula_does_not_fit_has_a_reason_and_no_number() -> None:
    experts = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=4,
        )
    )
    found = work_of(experts, counted(policy=1))
    assert found.operations is None
    assert "experts" in (found.reason or "")
    mixed = llama()
    mixed.config.layer_types = ["full_attention", "mamba"]
    assert "layers of type mamba" in (work_of(mixed, counted(policy=1)).reason or "")
    convolved = llama()
    convolved.convolution = torch.nn.Conv1d(64, 64, 3)
    assert "outside of linear layers" in (work_of(convolved, counted(policy=1)).reason or "")


def test_a_stages_operations_follow_from_the_lengths_of_its_pairs(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    rows = tiny.pairs()
    stage = tiny.stage("dpo", num_train_epochs=2)
    outcome = train(stage, tiny.folder_of(tmp_path, stage), tiny.Silent())
    lengths = [
        len(row["prompt_ids"]) + len(row[f"{side}_ids"]) for row in rows for side in ("chosen", "rejected")
    ]
    # The tiny model: 2 layers of width 16: q, k, v, o, then gate, up, down of 24, and the head over 32 words.
    matrices = 2 * (4 * 16 * 16 + 3 * 16 * 24) + 16 * 32
    a_pass = sum(2 * matrices * length + 2 * 4 * 16 * length**2 for length in lengths)
    assert outcome.work is not None
    assert outcome.work.operations == 2 * (3 * a_pass + a_pass)  # 2 epochs; the reference goes forward only
