"""The shared loader's pairs in the columns that each trainer takes as they are (TRL 1.16)."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from pipelines.stages import Nll

IGNORED = -100
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


def sft_rows(pairs: Dataset, nll: Nll) -> Dataset:
    """`input_ids` and `labels` of prompt + chosen; `labels` cover the completion, or everything."""

    def convert(pair: dict[str, Any]) -> dict[str, Any]:
        prompt, chosen = pair["prompt_ids"], pair["chosen_ids"]
        head = prompt if nll == "prompt_and_completion" else [IGNORED] * len(prompt)
        return {"input_ids": prompt + chosen, "labels": head + chosen}

    return Dataset.from_list([convert(pair) for pair in pairs])


def dpo_rows(pairs: Dataset) -> Dataset:
    """`prompt_ids`, `chosen_ids`, `rejected_ids`, and the reference's log-probs where the pairs have them."""
    stored = [column for column in REFERENCE_COLUMNS if column in pairs.column_names]
    columns = ("prompt_ids", "chosen_ids", "rejected_ids", *stored)
    return Dataset.from_list([{column: pair[column] for column in columns} for pair in pairs])


def orpo_rows(pairs: Dataset) -> Dataset:
    """Ids and masks of prompt, chosen and rejected (both with their prompt), and labels of the completions."""

    def convert(pair: dict[str, Any]) -> dict[str, Any]:
        prompt = pair["prompt_ids"]
        row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            completion = pair[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + completion
            row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(completion))
            row[f"{side}_labels"] = [IGNORED] * len(prompt) + completion
        return row

    return Dataset.from_list([convert(pair) for pair in pairs])
