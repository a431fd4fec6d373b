"""The shared loader's pairs in the columns that each trainer takes as they are (TRL 1.16).

Rows stay on disk, memory-mapped as the data stage wrote them; what a trainer needs beside them is made for a batch when it
is asked for. So memory does not grow with the number of pairs, and nothing is written twice.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from pipelines.stages import Nll

IGNORED = -100
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")

Columns = dict[str, list[Any]]  # of a batch of rows


def sft_rows(pairs: Dataset, nll: Nll) -> Dataset:
    """`input_ids` and `labels` of prompt + chosen; `labels` cover the completion, or everything."""

    def convert(batch: Columns) -> Columns:
        both = list(zip(batch["prompt_ids"], batch["chosen_ids"], strict=True))
        whole = nll == "prompt_and_completion"
        return {
            "input_ids": [prompt + chosen for prompt, chosen in both],
            "labels": [(prompt if whole else [IGNORED] * len(prompt)) + chosen for prompt, chosen in both],
        }

    return pairs.select_columns(["prompt_ids", "chosen_ids"]).with_transform(convert)


def dpo_rows(pairs: Dataset) -> Dataset:
    """`prompt_ids`, `chosen_ids`, `rejected_ids`, and the reference's log-probs where the pairs have them."""
    stored = [column for column in REFERENCE_COLUMNS if column in pairs.column_names]
    return pairs.select_columns(["prompt_ids", "chosen_ids", "rejected_ids", *stored])


def orpo_rows(pairs: Dataset) -> Dataset:
    """Ids and masks of prompt, chosen and rejected (both with their prompt), and labels of the completions."""

    def convert(batch: Columns) -> Columns:
        prompts = batch["prompt_ids"]
        made: Columns = {
            "prompt_input_ids": prompts,
            "prompt_attention_mask": [[1] * len(prompt) for prompt in prompts],
        }
        for side in ("chosen", "rejected"):
            both = list(zip(prompts, batch[f"{side}_ids"], strict=True))
            made[f"{side}_input_ids"] = [prompt + reply for prompt, reply in both]
            made[f"{side}_attention_mask"] = [[1] * (len(prompt) + len(reply)) for prompt, reply in both]
            made[f"{side}_labels"] = [[IGNORED] * len(prompt) + reply for prompt, reply in both]
        return made

    return pairs.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]).with_transform(convert)
