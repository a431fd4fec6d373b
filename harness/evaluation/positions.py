"""How long a text a model can read at all: as many tokens as it has learnt positions, where it has learnt any."""

from __future__ import annotations

import math
import re

from torch import nn

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


def _first(table: nn.Embedding) -> int:
    """The position of a text's first token: OPT and BART keep two for themselves, RoBERTa begins behind its padding's."""
    offset: int = getattr(table, "offset", 0)
    return offset if table.padding_idx is None else max(offset, table.padding_idx + 1)
