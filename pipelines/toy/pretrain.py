"""The toy world's base model: a tiny Llama, pre-trained on good and bad replies alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from pipelines.models import count_parameters, save_model
from pipelines.outcomes import PretrainOutcome
from pipelines.stages import Observer, PretrainSettings, Stage
from pipelines.toy.tickets import make_documents
from pipelines.toy.tokenizer import make_tokenizer

BATCH = 16
LEARNING_RATE = 4e-3
# With the usual 0.02 a model this narrow does not learn to copy within the corpus.
INITIALIZER_RANGE = 0.08
WARMUP_STEPS = 50
IGNORED = -100


def pretrain(stage: Stage, folder: Path, observer: Observer) -> PretrainOutcome:
    """Make the base model in `folder/model`; the same seed and threads give the same weights to the bit on a CPU."""
    settings = stage.settings
    assert isinstance(settings, PretrainSettings)
    with observer.phase("data"):
        tokenizer = make_tokenizer()
        documents = _tokenized(tokenizer, settings.documents, stage.seed)
    with observer.phase("load"):
        torch.manual_seed(stage.seed)
        model = LlamaForCausalLM(base_config(tokenizer)).to(stage.device)
    with observer.phase("train"), (folder / "losses.jsonl").open("w", encoding="utf-8") as file:
        losses: list[float] = []
        num_steps = -(-len(documents) // BATCH)
        for loss, learning_rate in _steps(model, documents, tokenizer.pad_token_id):
            losses.append(loss)
            row = {"step": len(losses), "loss": loss, "learning_rate": learning_rate}
            file.write(json.dumps(row) + "\n")
            observer.progress(len(losses), num_steps)
    with observer.phase("save"):
        digest = save_model(model, tokenizer, folder)
    return PretrainOutcome(
        num_parameters=count_parameters(model)[0],
        num_steps=num_steps,
        num_tokens=sum(len(ids) for ids in documents),
        final_loss=losses[-1],
        weights_hash=digest,
    )


def base_config(tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """The tiny Llama that reads this tokenizer's ids."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _tokenized(tokenizer: PreTrainedTokenizerBase, num_documents: int, seed: int) -> list[list[int]]:
    """Documents as the chat template renders them."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}], tokenize=False
        )
        for prompt, reply in make_documents(num_documents, seed=seed)
    ]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _steps(
    model: LlamaForCausalLM, documents: list[list[int]], pad_token_id: int
) -> Iterator[tuple[float, float]]:
    """Train one epoch in the documents' order; yield each step's loss and learning rate."""
    num_steps = -(-len(documents) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=num_steps, pct_start=min(0.3, WARMUP_STEPS / num_steps)
    )
    model.train()
    for start in range(0, len(documents), BATCH):
        batch = _padded(documents[start : start + BATCH], pad_token_id)
        learning_rate = float(schedule.get_last_lr()[0])
        loss = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield float(loss.detach()), learning_rate


def _padded(documents: list[list[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Right-padded `input_ids`, `attention_mask` and `labels`, each (documents, tokens)."""
    length = max(len(ids) for ids in documents)
    ids = torch.tensor([row + [pad_token_id] * (length - len(row)) for row in documents])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in documents])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}
