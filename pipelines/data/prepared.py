"""The shared loader's product, as everything after it reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset, load_from_disk
from transformers import AutoTokenizer

from pipelines.errors import PipelineError
from pipelines.evaluations import Split
from pipelines.outcomes import DataOutcome

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS_FOLDER = "splits"
TOKENIZER_FOLDER = "tokenizer"
OUTCOME = "data.json"
PAIRS = "pairs.jsonl"  # hashes of every pair; unlike the splits it stays with the results


def read_split(folder: Path, split: Split) -> Dataset:
    """The pairs of one split, in a fixed order; `docs/data.md` lists the columns.

    Args:
        folder: Folder of the stage that prepared the data.
        split: Which split; validation may be empty.

    Raises:
        PipelineError: the folder holds no such split.
    """
    path = folder / SPLITS_FOLDER / split
    if not path.is_dir():
        raise PipelineError(f"{folder}: has no prepared {split} split. Run the data stage again.")
    return load_from_disk(path)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that the data was made with, chat template and pad token set."""
    return AutoTokenizer.from_pretrained(folder / TOKENIZER_FOLDER)


def read_outcome(folder: Path) -> DataOutcome:
    """What the shared loader made of its source."""
    return DataOutcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))
