"""Data for SFT alone: rows with one reply, read as pairs whose rejected reply is the chosen one. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipelines.data.files import Row
from pipelines.data.forms import Pair
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings, RowForm

KEY = "sft.data"  # where a config has these settings
# Columns that hold the reply by the form that is forced: alone, or (the others) as the last message of a conversation.
_ALONE = "completion"
_REPLIES: dict[RowForm, tuple[str, ...]] = {
    "auto": (_ALONE, "messages", "conversations"),
    "prompt": (_ALONE,),
    "messages": (_ALONE, "messages"),
    "sharegpt": ("conversations",),
}
_NO_REPLY = "\U0010fffc"  # stands in for a rejected reply while a row is read; nobody writes it


def holds_pairs(columns: Iterable[str], data: DataSettings) -> bool:
    """Whether rows with these columns, renamed, are preference pairs: they have two replies, or are forced to a form that has.

    Raises:
        PipelineError: they are neither pairs nor demonstrations.
    """
    has = list(dict.fromkeys(columns))
    if "chosen" in has or data.form not in _REPLIES:
        return True
    replies = _REPLIES[data.form]
    if not any(name in has for name in replies):
        of_form = "" if data.form == "auto" else f" of form {data.form}"
        needed = ", or ".join(
            "prompt and completion" if name == _ALONE else name for name in (*replies, "chosen")
        )
        raise PipelineError(
            f"{data.path}: data for SFT{of_form} needs the columns {needed}. It has: {', '.join(has) or 'no columns'}. "
            f"Rename columns with {KEY}.columns."
        )
    return False


def as_pair_row(row: Row, form: RowForm) -> Row:
    """A row with one reply, in the form `messages` of preference pairs; `form` is the one that is forced."""
    whole = next(
        (row[name] for name in _REPLIES[form] if name != _ALONE and isinstance(row.get(name), list)), None
    )
    kept = {"system": row["system"]} if "system" in row else {}
    if whole is not None:
        return kept | {"prompt": whole[:-1], "chosen": whole[-1:], "rejected": _NO_REPLY}
    return kept | {"prompt": row.get("prompt", ""), "chosen": row.get(_ALONE), "rejected": _NO_REPLY}


def as_demonstration(pair: Pair) -> Pair:
    """The pair without its rejected reply: the chosen one stands there, which every template renders."""
    return replace(pair, rejected=pair.chosen)
