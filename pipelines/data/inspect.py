"""What a source holds, found out without a tokenizer: what `check` shows of local data. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from pipelines.data.drops import Drop, Tally
from pipelines.data.forms import Form
from pipelines.data.reading import read_demonstrations, read_pairs
from pipelines.data.splitting import split_of
from pipelines.evaluations import Split
from pipelines.outcomes import DroppedRows
from pipelines.stages import DataSettings


@dataclass(frozen=True)
class Inspection:
    """A look at a source's rows; rows that are too long are not known before they are tokenized.

    Attributes:
        splits: Usable rows by split, before `data.max_*_pairs`.
    """

    form: Form
    columns: list[str]
    num_rows: int
    dropped: list[DroppedRows]
    splits: Counter[Split]

    @property
    def num_usable(self) -> int:
        """Rows that can serve, as far as their text tells."""
        return self.splits.total()


def inspect_rows(
    data: DataSettings, *, max_rows: int | None = None, demonstrations: bool = False
) -> Inspection:
    """Read a source as the loader will, and count.

    Args:
        data: Which source.
        max_rows: Look at the first so many rows only.
        demonstrations: It is for SFT alone: all of it is to be trained on, and one reply a row does.

    Raises:
        PipelineError: the source is malformed: file, row, column, what is there.
    """
    reading = (read_demonstrations if demonstrations else read_pairs)(data)
    tally = Tally()
    splits: Counter[Split] = Counter()
    for number, found in islice(reading.pairs, max_rows):
        tally.num_rows += 1
        if isinstance(found, Drop):
            tally.drop(number, found)
        else:
            splits["train" if demonstrations else split_of(found.prompt, data)] += 1
    return Inspection(reading.form, reading.columns, tally.num_rows, tally.dropped(), splits)
