"""Where a training stage ends that may read so many tokens: at a whole step, known before it trains (`max_tokens`).

How many tokens a step has depends on which pairs it has, so on the seed; the sampler of the trainer itself says which.
"""

from __future__ import annotations

import json
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset
    from transformers import Trainer

    from pipelines.stages import Stage, TrainSettings

SPENT = "spent.json"  # tokens that the arm's policies have read up to this stage's end


def steps_within(tokens: int, tokens_of_steps: Iterator[int]) -> int:
    """The number of steps, at least 1, whose tokens together come nearest to `tokens`; the smaller of two as near.

    Args:
        tokens: What may be read.
        tokens_of_steps: Tokens of each step; goes on for as long as it is asked.
    """
    before, steps = 0, 0
    for steps, total in enumerate(accumulate(tokens_of_steps), start=1):
        if total >= tokens:
            return steps - 1 if steps > 1 and tokens - before <= total - tokens else steps
        before = total
    return max(1, steps)


def hold_to_tokens(trainer: Trainer, stage: Stage, folder: Path, pairs: Dataset) -> None:
    """Set the trainer's `max_steps`, and so the end of its schedule, by what is left of the stage's `max_tokens`."""
    settings: TrainSettings = stage.settings  # type: ignore[assignment]
    if settings.max_tokens is not None:
        left = settings.max_tokens - _spent_before(stage, folder)
        trainer.args.max_steps = steps_within(left, _tokens_of_steps(trainer, settings, pairs))


def note_spent(stage: Stage, folder: Path, num_policy_tokens: int) -> None:
    """Leave what the arm has read by now, for the stage after this one."""
    total = _spent_before(stage, folder) + num_policy_tokens
    (folder / SPENT).write_text(json.dumps({"policy_tokens": total}) + "\n", encoding="utf-8")


def _spent_before(stage: Stage, folder: Path) -> int:
    if stage.inputs.policy is None:
        return 0
    content = (folder.parent / stage.inputs.policy / SPENT).read_text(encoding="utf-8")
    return int(json.loads(content)["policy_tokens"])


def _tokens_of_steps(trainer: Trainer, settings: TrainSettings, pairs: Dataset) -> Iterator[int]:
    """Tokens through the policy in each optimizer step, epoch after epoch."""
    lengths = tokens_of_pairs(pairs, paired=settings.kind != "sft")
    loader = trainer.get_train_dataloader()
    for epoch in count():
        loader.set_epoch(epoch)
        order = np.fromiter(loader.batch_sampler.sampler, dtype=np.int64)
        starts = np.arange(0, len(order), settings.effective_batch)
        yield from np.add.reduceat(lengths[order], starts).tolist()


def tokens_of_pairs(pairs: Dataset, *, paired: bool) -> NDArray[np.int64]:
    """Tokens of each pair in one forward pass of a policy that gets both replies, or the chosen one alone."""
    columns = ["prompt_ids", "chosen_ids", *(["rejected_ids"] if paired else [])]
    lengths = {name: np.zeros(len(pairs), dtype=np.int64) for name in columns}
    start = 0
    for table in pairs.select_columns(columns).with_format("arrow").iter(10_000):
        for name in columns:
            lengths[name][start : start + len(table)] = pc.list_value_length(table[name]).to_numpy()
        start += len(table)
    prompts = lengths["prompt_ids"] * (2 if paired else 1)
    return prompts + sum(lengths[name] for name in columns[1:])
