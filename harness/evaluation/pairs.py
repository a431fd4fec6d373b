"""Which pairs are measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.data.prepared import read_outcome, read_split
from pipelines.errors import PipelineError
from pipelines.evaluations import Split


def chosen_pairs(data: Path, split: Split, max_items: int | None) -> list[dict[str, Any]]:
    """The first `max_items` pairs of a split in order of their uid: the same ones for every model.

    Raises:
        PipelineError: the split has no pairs.
    """
    # By the count: datasets 5.2 saves a split without rows but cannot load it again.
    if read_outcome(data).splits[split].num_pairs == 0:
        raise PipelineError(f"the {split} split has no pairs: there is nothing to evaluate on")
    rows: list[dict[str, Any]] = read_split(data, split).to_list()
    return sorted(rows, key=lambda row: row["uid"])[:max_items]


def prompt_id(pair: Mapping[str, Any]) -> str:
    """What items from one prompt have in common: a hash of the prompt's ids. The verdict averages over them first."""
    return hashlib.sha256(json.dumps(pair["prompt_ids"]).encode()).hexdigest()[:16]
