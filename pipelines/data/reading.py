"""From a source to pairs: rows opened, form found, columns renamed, duplicates recognised. Imports no torch."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from pipelines.data.demonstrations import KEY as DEMONSTRATIONS
from pipelines.data.demonstrations import as_demonstration, as_pair_row, holds_pairs
from pipelines.data.drops import Drop
from pipelines.data.files import Row
from pipelines.data.forms import Form, Pair, check_renamed, find_form, pair_of, renamed
from pipelines.data.sources import open_rows
from pipelines.stages import DataSettings

_ROWS_TO_LOOK_AT = 100  # the form is found from so many
_PART_BITS = 48  # numbers with the same first 16 of 64 bits are looked through one by one


@dataclass(frozen=True)
class Reading:
    """A source that has been opened.

    Attributes:
        form: How its rows hold their pairs.
        columns: Names in the data, before renaming.
        pairs: Each row's number, counted from 0, with its pair or the reason why it cannot serve. Read once.
    """

    form: Form
    columns: list[str]
    pairs: Iterator[tuple[int, Pair | Drop]]


def read_pairs(data: DataSettings) -> Reading:
    """Open a source and find its form; rows are read as `pairs` is.

    Raises:
        PipelineError: the source is malformed, at once or while `pairs` is read; says where.
    """
    first, columns, rows = _opened(data, key="data")
    form = find_form(first, data)
    return Reading(form, columns, _pairs(rows, partial(pair_of, form=form), data))


def read_demonstrations(data: DataSettings) -> Reading:
    """The same of data for SFT alone: rows with one reply, or preference pairs whose chosen reply counts.

    Raises:
        PipelineError: as `read_pairs`.
    """
    first, columns, rows = _opened(data, key=DEMONSTRATIONS)
    of_pairs = holds_pairs([name for row in first for name in renamed(row, data.columns)], data)
    form: Form = find_form(first, data, key=DEMONSTRATIONS) if of_pairs else "messages"

    def read(row: Row) -> Pair | Drop:
        found = pair_of(row if of_pairs else as_pair_row(row, data.form), form)
        return as_demonstration(found) if isinstance(found, Pair) else found

    return Reading(form, columns, _pairs(rows, read, data))


def _opened(data: DataSettings, *, key: str) -> tuple[list[Row], list[str], Iterator[tuple[int, Row]]]:
    """The first rows, the columns that they have, and all rows with their numbers."""
    rows = open_rows(data, key=key)
    first = list(islice(rows, _ROWS_TO_LOOK_AT))
    columns = list(dict.fromkeys(name for _, row in first for name in row))
    check_renamed(columns, data, key=key)
    return [row for _, row in first], columns, chain(first, rows)


def _pairs(
    rows: Iterator[tuple[int, Row]], read: Callable[[Row], Pair | Drop], data: DataSettings
) -> Iterator[tuple[int, Pair | Drop]]:
    seen = _Seen()
    for number, row in rows:
        found = read(renamed(row, data.columns))
        is_new = not isinstance(found, Pair) or seen.add(found.uid)
        yield number, found if is_new else Drop.DUPLICATE


class _Seen:
    """A set of 64-bit numbers in little more than 8 bytes each; Python's own takes ten times as much."""

    def __init__(self) -> None:
        self._parts: dict[int, array[int]] = {}

    def add(self, number: int) -> bool:
        """Add a number; whether it is new."""
        part = self._parts.setdefault(number >> _PART_BITS, array("Q"))
        if number in part:
            return False
        part.append(number)
        return True
