"""How much work lm-eval's known tasks are, roughly: how many items each has, and how many tokens are read and written for one.

Numbers of items are those of the public data sets (MMLU's of its 19 subjects in science and mathematics). Tokens are rough estimates
for English and a vocabulary of 32,000 or more; a forecast from them is a range of a factor of two to either side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ROUGHLY = 2.0


class Task(NamedTuple):
    """The work of one task.

    Attributes:
        num_subtasks: A limit holds for each.
        num_items: All subtasks together.
        num_shots: Examples before each item where the config gives no number.
        item_tokens: Of an item, and of an example.
        num_reads: How often an item is read with its examples: once for each choice of several tokens.
        written_tokens: Generated for an item.
        fixed_tokens: Of a fixed text before each item.
    """

    num_subtasks: int
    num_items: int
    num_shots: int
    item_tokens: int
    num_reads: float
    written_tokens: int = 0
    fixed_tokens: int = 0


KNOWN = {
    "ifeval": Task(1, 541, 0, 60, 1, written_tokens=500),  # up to 1,280
    "mmlu_stem": Task(19, 3153, 0, 120, 1),
    "gsm8k": Task(1, 1319, 5, 150, 1, written_tokens=180),  # up to 256
    "hellaswag": Task(1, 10042, 0, 90, 4),
    "truthfulqa_mc2": Task(1, 817, 0, 35, 7.2, fixed_tokens=210),
}


class Work(NamedTuple):
    """Tokens of some tasks on one model."""

    read_tokens: float
    written_tokens: float


def work_of(tasks: Sequence[str], *, num_fewshot: int | None, limit: float | None) -> Work | None:
    """The work of `tasks`; None where one of them is not known.

    Args:
        tasks: Names of lm-eval's tasks.
        num_fewshot: Examples before each item; the task's own number if None.
        limit: Items of each subtask at most; below 1, a share of them.
    """
    if not all(task in KNOWN for task in tasks):
        return None
    read = written = 0.0
    for task in (KNOWN[name] for name in tasks):
        items = _num_items(task, limit)
        shots = task.num_shots if num_fewshot is None else num_fewshot
        read += items * task.num_reads * ((1 + shots) * task.item_tokens + task.fixed_tokens)
        written += items * task.written_tokens
    return Work(read, written)


def _num_items(task: Task, limit: float | None) -> float:
    if limit is None:
        return task.num_items
    each = limit if limit >= 1 else math.ceil(limit * task.num_items / task.num_subtasks)
    return min(task.num_items, each * task.num_subtasks)
