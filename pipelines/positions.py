"""How long a text a model can read at all: as many tokens as it has learnt positions, where it has learnt any."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pyarrow import compute
from torch import nn

from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from datasets import Dataset

PAIRS_AT_ONCE = 10_000

# The last name of a table of positions, such as GPT-2's `wpe`, OPT's `embed_positions` and BERT's `position_embeddings`.
_TABLE = re.compile(r"(^|\.)(wpe|(?!\w*relative)\w*position\w*)$")


def num_positions(model: nn.Module) -> float:
    """Tokens of the longest text; infinite where positions are calculated, as rotary ones are.

    A config's `max_position_embeddings` does not say it: of a model with rotary positions it is no bound, and RoBERTa's
    counts positions that no token gets.
    """
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and _TABLE.search(name)
    ]
    sizes = [table.num_embeddings - _first(table) for table in tables]
    # GPT-J and CodeGen look rotary positions up.
    sizes += [len(table) for name, table in model.named_buffers() if name.endswith("embed_positions")]
    return min(sizes, default=math.inf)


def require_positions(model: nn.Module, longest: int) -> None:
    """Refuse texts that the model cannot read, before it fails on one of them, on a GPU without a word on what it was.

    Args:
        model: What will read them.
        longest: Tokens of the longest prompt with its reply.

    Raises:
        PipelineError: the model has learnt fewer positions.
    """
    positions = num_positions(model)
    if longest > positions:
        raise PipelineError(
            f"training.max_length: the longest prompt and reply have {longest} tokens, the model has learnt {positions:.0f} "
            f"positions. Use at most {positions:.0f}"
        )


def require_readable(model: nn.Module, *pairs: Dataset) -> None:
    """As `require_positions`, of all prepared pairs; they are read only where the model has a bound.

    Raises:
        PipelineError: the model has learnt fewer positions than the longest of them needs.
    """
    if num_positions(model) < math.inf:
        require_positions(model, max(map(longest_text, pairs)))


def longest_text(pairs: Dataset) -> int:
    """Tokens of the longest prompt and reply of prepared pairs."""
    longest = 0
    for batch in pairs.with_format("arrow").iter(batch_size=PAIRS_AT_ONCE):
        prompts, *replies = (
            compute.list_value_length(batch[column])
            for column in ("prompt_ids", "chosen_ids", "rejected_ids")
            if column in batch.column_names
        )
        longest = max(longest, *(compute.max(compute.add(prompts, reply)).as_py() or 0 for reply in replies))
    return longest


def _first(table: nn.Embedding) -> int:
    """The position of a text's first token: OPT and BART keep two for themselves, RoBERTa begins behind its padding's."""
    offset: int = getattr(table, "offset", 0)
    return offset if table.padding_idx is None else max(offset, table.padding_idx + 1)
