"""Data for SFT alone: rows with one reply, read as pairs whose rejected reply is the chosen one. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipelines.data.files import Row
from pipelines.data.forms import Pair
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings

# Columns that hold the reply, alone or as the last message of a conversation.
REPLIES = ("completion", "messages", "conversations")
_NO_REPLY = "\U0010fffc"  # stands in for a rejected reply while a row is read; nobody writes it


def holds_pairs(columns: Iterable[str], data: DataSettings) -> bool:
    """Whether rows with these columns, renamed, are preference pairs.

    Raises:
        PipelineError: they are neither pairs nor demonstrations.
    """
    has = list(dict.fromkeys(columns))
    if "chosen" in has or data.form != "auto":
        return True
    if not any(name in has for name in REPLIES):
        raise PipelineError(
            f"{data.path}: data for SFT needs the columns prompt and completion, or messages, conversations or chosen. It "
            f"has: {', '.join(has) or 'no columns'}. Rename columns with sft.data.columns."
        )
    return False


def as_pair_row(row: Row) -> Row:
    """A row with one reply in the form `messages` of preference pairs."""
    whole = next((row[name] for name in REPLIES[1:] if isinstance(row.get(name), list)), None)
    kept = {"system": row["system"]} if "system" in row else {}
    if whole is not None:
        return kept | {"prompt": whole[:-1], "chosen": whole[-1:], "rejected": _NO_REPLY}
    return kept | {"prompt": row.get("prompt", ""), "chosen": row.get("completion"), "rejected": _NO_REPLY}


def as_demonstration(pair: Pair) -> Pair:
    """The pair without its rejected reply: the chosen one stands there, which every template renders."""
    return replace(pair, rejected=pair.chosen)
