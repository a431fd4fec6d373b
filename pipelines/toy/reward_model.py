"""The toy world's reward model: a tiny Llama with a score head, trained from nothing on the training pairs alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from pipelines.data.prepared import read_outcome, read_split
from pipelines.evaluations import Split
from pipelines.models import count_parameters, save_model
from pipelines.outcomes import RewardOutcome
from pipelines.stages import Observer, Stage
from pipelines.toy.pretrain import base_config
from pipelines.toy.tokenizer import make_tokenizer

# As first tried, on pairs of seed 991 that no comparison uses; it agreed with gold as often from the toy's base model.
EPOCHS, BATCH, LEARNING_RATE = 4, 16, 5e-4

SPLITS: tuple[Split, ...] = ("train", "validation")

Ids = list[int]


def train_reward_model(stage: Stage, folder: Path, observer: Observer) -> RewardOutcome:
    """Make the model in `folder/model`; the same seed and threads give the same weights to the bit on a CPU.

    Raises:
        PipelineError: the training pairs cannot be read.
    """
    assert stage.inputs.data is not None
    data = folder.parent / stage.inputs.data
    with observer.phase("data"):
        tokenizer = make_tokenizer()
        train, validation = (_pairs(data, split, tokenizer) for split in SPLITS)
    with observer.phase("load"):
        torch.manual_seed(stage.seed)
        config = base_config(tokenizer)
        config.num_labels = 1
        model = LlamaForSequenceClassification(config).to(stage.device)
    with observer.phase("train"):
        num_steps = EPOCHS * -(-len(train) // BATCH)
        losses: list[float] = []
        for loss in _steps(model, train, num_steps=num_steps, seed=stage.seed):
            losses.append(loss)
            observer.progress(len(losses), num_steps)
    accuracy = _accuracy(model, validation) if validation else None
    with observer.phase("save"):
        digest = save_model(model, tokenizer, folder)
    return RewardOutcome(
        num_parameters=count_parameters(model)[0],
        num_steps=num_steps,
        num_pairs=len(train),
        final_loss=losses[-1],
        validation_accuracy=accuracy,
        weights_hash=digest,
    )


def _pairs(data: Path, split: Split, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Ids, Ids]]:
    """Chosen and rejected with their prompt, as the chat template renders them."""
    if read_outcome(data).splits[split].num_pairs == 0:
        return []
    rows = read_split(data, split).to_list()
    sides = (
        [_ids(tokenizer, row["prompt_text"], row[side]) for row in rows]
        for side in ("chosen_text", "rejected_text")
    )
    return list(zip(*sides, strict=True))


def _ids(tokenizer: PreTrainedTokenizerBase, prompt: str, reply: str) -> Ids:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids: Ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _steps(
    model: LlamaForSequenceClassification, pairs: list[tuple[Ids, Ids]], *, num_steps: int, seed: int
) -> Iterator[float]:
    """Bradley-Terry: minus the mean log sigmoid of chosen's score less rejected's. Yields each step's loss.

    References:
        Ouyang et al. 2022, arXiv 2203.02155, equation 1, with one pair a prompt.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_steps)
    model.train()
    rng = random.Random(seed)
    for _ in range(EPOCHS):
        order = rng.sample(pairs, len(pairs))
        for start in range(0, len(order), BATCH):
            loss = -logsigmoid(_margins(model, order[start : start + BATCH])).mean()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            yield float(loss.detach())
    model.eval()


def _margins(model: LlamaForSequenceClassification, pairs: Sequence[tuple[Ids, Ids]]) -> Tensor:
    """Chosen's score less rejected's: (pairs,)."""
    texts = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    pad, length = model.config.pad_token_id, max(map(len, texts))
    ids_bt = torch.tensor([ids + [pad] * (length - len(ids)) for ids in texts], device=model.device)
    output: Any = model(input_ids=ids_bt, attention_mask=(ids_bt != pad).long())
    scores = output.logits[:, 0]
    margins: Tensor = scores[: len(pairs)] - scores[len(pairs) :]
    return margins


@torch.inference_mode()
def _accuracy(model: LlamaForSequenceClassification, pairs: list[tuple[Ids, Ids]]) -> float:
    margins = torch.cat(
        [_margins(model, pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
    )
    return float((margins > 0).float().mean())
