"""A tiny base model, a tiny prepared data folder and stages over them, made without the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.outcomes import DataOutcome, SplitCount
from pipelines.stages import LoraSettings, ModelSettings, ReferenceSettings, Stage, StageInputs, TrainSettings
from tests.pipelines.training.silent import Silent as Silent
from tests.stock_orpo import ORPO

VOCABULARY = 32
PAD, EOS = 0, 1
BASE, DATA, SFT = "pretrain-000000000000", "data-000000000000", "sft-000000000000"


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{i}": i for i in range(2, VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def pairs(count: int = 12) -> list[dict[str, Any]]:
    """Pairs of unequal lengths, one with a reply of a single token."""
    generator = torch.Generator().manual_seed(7)

    def ids(length: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()

    rows = []
    for number in range(count):
        chosen = [] if number == 3 else ids(2 + number % 5)
        rows.append(
            {
                "uid": f"{number:04d}",
                "source_row": number,
                "prompt_ids": ids(3 + number % 4),
                "chosen_ids": [*chosen, EOS],
                "rejected_ids": [*ids(1 + (3 * number) % 7), EOS],
                "prompt_text": "p",
                "chosen_text": "c",
                "rejected_text": "r",
            }
        )
    return rows


def make_inputs(root: Path, *, rows: list[dict[str, Any]] | None = None) -> None:
    """The folders of the base and of the data stage below `root`."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=EOS,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(root / BASE / "model")
    data = root / DATA
    tokenizer().save_pretrained(data / "tokenizer")
    table = rows or pairs()
    for split in ("train", "validation", "test"):
        Dataset.from_list(table).save_to_disk(data / "splits" / split)
    count = SplitCount(num_pairs=len(table), num_prompt_tokens=0, num_chosen_tokens=0, num_rejected_tokens=0)
    outcome = DataOutcome(
        form="prompt",
        num_rows=len(table),
        dropped=[],
        splits={"train": count, "validation": count, "test": count},
        content_hash="0",
        chat_template_source="default",
        adds_bos=False,
        end_of_turn_ids=[EOS],
        pad_token_id=PAD,
    )
    (data / "data.json").write_text(json.dumps(outcome.model_dump(mode="json")))


def stage(
    kind: str,
    *,
    tuning: str = "full",
    policy: str | None = None,
    reference: str | None = None,
    stored: str | None = None,
    nll: str | None = None,
    mean_over: str | None = None,
    nll_weight: float | None = None,
    implementation: str = ORPO,
    gradient_checkpointing: bool = False,
    dtype: str = "float32",
    master_weights: str | None = None,
    micro_batch: int = 4,
    effective_batch: int = 4,
    recording: str = "full",
    **arguments: Any,
) -> Stage:
    settings = TrainSettings(
        kind=kind,
        model=ModelSettings(name="toy"),
        tuning=tuning,
        lora=LoraSettings(r=4, alpha=8),
        dtype=dtype,
        master_weights=master_weights,
        effective_batch=effective_batch,
        micro_batch=micro_batch,
        max_length=32,
        gradient_checkpointing=gradient_checkpointing,
        reference=(reference or "copy") if kind == "dpo" else None,
        implementation=implementation if kind == "orpo" else None,
        nll=nll or ("prompt_and_completion" if kind == "orpo" else "completion"),
        mean_over=mean_over,
        nll_weight=nll_weight,
        recording=recording,
        arguments={"learning_rate": 1e-2, "num_train_epochs": 4, "lr_scheduler_type": "constant"} | arguments,
    )
    return Stage(
        id=f"{kind}-000000000000",
        settings=settings,
        inputs=StageInputs(base=BASE, data=DATA, policy=policy, reference=stored),
        seed=11,
        threads=1,
        device="cpu",
    )


def reference_stage(policy: str | None, *, tuning: str = "full", **arguments: Any) -> Stage:
    """The stage whose log-probs a DPO stage with `reference="precomputed"` reads."""
    settings = ReferenceSettings(
        kind="reference",
        model=ModelSettings(name="toy"),
        tuning=tuning,
        lora=LoraSettings(r=4, alpha=8),
        dtype="float32",
        micro_batch=4,
        max_length=32,
        arguments=arguments,
    )
    return Stage(
        id="reference-000000000000",
        settings=settings,
        inputs=StageInputs(base=BASE, data=DATA, policy=policy),
        seed=0,
        threads=1,
        device="cpu",
    )


def folder_of(root: Path, made: Stage, name: str | None = None) -> Path:
    folder = root / (name or made.id)
    folder.mkdir()
    return folder


def completion_logprobs(model: torch.nn.Module, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probs of the completion's tokens by a float64 log-softmax, one sequence without padding: (tokens,)."""
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double()
    logprobs = torch.log_softmax(logits[:-1], dim=-1)
    taken = logprobs[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    return taken[len(prompt) - 1 :]
