"""What the trainers are fed: rows by hand, read from the loader's files and written nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from pipelines.data.prepared import read_split
from pipelines.training.feed import dpo_rows, orpo_rows, sft_rows
from pipelines.training.train import train
from tests.pipelines.training import tiny

PAIR = {"uid": "a", "prompt_ids": [5, 6], "chosen_ids": [7, 1], "rejected_ids": [8, 9, 1]}
OTHER = {"uid": "b", "prompt_ids": [4], "chosen_ids": [1], "rejected_ids": [3, 1]}


@pytest.fixture
def pairs() -> Dataset:
    return Dataset.from_list([PAIR, OTHER])


def test_rows_have_what_each_trainer_takes_and_no_more(pairs: Dataset) -> None:
    assert sft_rows(pairs, "completion")[0] == {"input_ids": [5, 6, 7, 1], "labels": [-100, -100, 7, 1]}
    assert sft_rows(pairs, "prompt_and_completion")[1] == {"input_ids": [4, 1], "labels": [4, 1]}
    assert dpo_rows(pairs)[1] == {name: OTHER[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    assert orpo_rows(pairs)[0] == {
        "prompt_input_ids": [5, 6],
        "prompt_attention_mask": [1, 1],
        "chosen_input_ids": [5, 6, 7, 1],
        "chosen_attention_mask": [1, 1, 1, 1],
        "chosen_labels": [-100, -100, 7, 1],
        "rejected_input_ids": [5, 6, 8, 9, 1],
        "rejected_attention_mask": [1, 1, 1, 1, 1],
        "rejected_labels": [-100, -100, 8, 9, 1],
    }


@pytest.mark.parametrize(
    "rows", [lambda pairs: sft_rows(pairs, "completion"), dpo_rows, orpo_rows], ids=["sft", "dpo", "orpo"]
)
def test_a_batch_is_its_rows_in_the_order_asked_for(pairs: Dataset, rows: Any) -> None:
    made = rows(pairs)
    assert made.__getitems__([1, 0]) == [made[1], made[0]]


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo"])
def test_training_reads_the_loaders_files_and_adds_none_to_them(tmp_path: Path, kind: str) -> None:
    tiny.make_inputs(tmp_path)
    folder = tmp_path / tiny.DATA
    before = sorted(folder.rglob("*"))
    mapped = read_split(folder, "train").cache_files
    assert mapped
    for rows in (sft_rows(read_split(folder, "train"), "completion"), orpo_rows(read_split(folder, "train"))):
        assert rows.cache_files == mapped
    stage = tiny.stage(kind)
    outcome = train(stage, tiny.folder_of(tmp_path, stage), tiny.Silent())
    assert outcome.num_rows == 12
    assert sorted(folder.rglob("*")) == before
