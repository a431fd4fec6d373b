"""The stored replies of one model, as a judge reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.records import ITEMS, PROMPT, REPLIES
from pipelines.errors import PipelineError


@dataclass(frozen=True)
class StoredReply:
    """One line of a `replies.jsonl`.

    Attributes:
        prompt_id: The hash that items from one prompt share.
        num_tokens: Of the reply, by the models' own tokenizer.
    """

    item: str
    prompt_id: str
    prompt: str
    reply: str
    num_tokens: int
    category: str | None


def stored_replies(folder: Path, which: Literal["greedy", "sampled"]) -> dict[str, StoredReply]:
    """The replies that a generation stage left, by item.

    Raises:
        PipelineError: the files are missing or malformed, or hold no such reply.
    """
    prompt_ids = {row["item"]: row.get(PROMPT, row["item"]) for row in _rows(folder / ITEMS)}
    try:
        found = {
            row["item"]: StoredReply(
                item=row["item"],
                prompt_id=prompt_ids[row["item"]],
                prompt=row["prompt"],
                reply=row["reply"],
                num_tokens=row["num_tokens"],
                category=row.get("category"),
            )
            for row in _rows(folder / REPLIES)
            if (row["temperature"] > 0) == (which == "sampled")
        }
    except KeyError as error:
        raise PipelineError(f"{_named(folder / REPLIES)}: a row lacks {error}. {_remedy(folder)}") from error
    if not found:
        raise PipelineError(f"{_named(folder / REPLIES)}: holds no {which} replies. {_remedy(folder)}")
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                if not isinstance(row, dict) or "item" not in row:
                    raise ValueError(f"line {number} is no row of an item")
                yield row
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise PipelineError(f"{_named(path)}: {said}. {_remedy(path.parent)}") from error


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _remedy(folder: Path) -> str:
    return f"Delete the folder {folder.name} and run again: its model answers once more"
