"""What a source holds, found out without a tokenizer: what `check` shows of local data. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from pipelines.data.drops import Drop, Tally
from pipelines.data.forms import Form, Pair, readable
from pipelines.data.reading import Reading, read_demonstrations, read_pairs
from pipelines.data.splitting import split_of
from pipelines.evaluations import Split
from pipelines.outcomes import DroppedRows
from pipelines.stages import DataSettings


@dataclass(frozen=True)
class Inspection:
    """A look at a source's rows; rows that are too long are not known before they are tokenized.

    Attributes:
        dropped: Rows that are left out, by reason.
        num_dropped: Those of them that could not serve; rows that are held out could.
        splits: Usable rows by split, before `data.max_*_pairs`.
        prompt_bytes: Of the usable rows' prompts by split, as people and judges read them.
        reply_bytes: Of both replies of the usable rows by split.
    """

    form: Form
    columns: list[str]
    num_rows: int
    dropped: list[DroppedRows]
    num_dropped: int
    splits: Counter[Split]
    prompt_bytes: Counter[Split]
    reply_bytes: Counter[Split]

    def mean_bytes(self, split: Split) -> tuple[float, float]:
        """Of a prompt and of a reply of a split; 0 where it has none."""
        rows = max(self.splits[split], 1)
        return self.prompt_bytes[split] / rows, self.reply_bytes[split] / (2 * rows)

    @property
    def num_usable(self) -> int:
        """Rows that can serve, as far as their text tells."""
        return self.splits.total()

    @property
    def num_held_out(self) -> int:
        """Rows that could serve, and have a prompt that is held out."""
        return self.num_rows - self.num_dropped - self.num_usable

    def unusable(self) -> list[DroppedRows]:
        """Rows that could not serve, by reason."""
        return [dropped for dropped in self.dropped if dropped.reason != Drop.HELD_OUT]


def inspect_rows(data: DataSettings, *, max_rows: int | None = None) -> Inspection:
    """Read preference pairs as the loader will, and count.

    Args:
        data: Which source.
        max_rows: Look at the first so many rows only.

    Raises:
        PipelineError: the source is malformed: file, row, column, what is there.
    """
    reading = read_pairs(data)
    tally, usable = Tally(), _Usable()
    for number, found in islice(reading.pairs, max_rows):
        tally.num_rows += 1
        if isinstance(found, Drop):
            tally.drop(number, found)
        else:
            usable.add(found, split_of(found.prompt, data))
    return _inspection(reading, tally, usable)


def inspect_demonstrations(data: DataSettings, *, pairs: DataSettings | None) -> Inspection:
    """The same of data for SFT alone: all of it is to be trained on, less the prompts that are held out.

    Args:
        data: Which source.
        pairs: The preference pairs that hold prompts out; None where they cannot be read here.

    Raises:
        PipelineError: one of the sources is malformed.
    """
    from pipelines.data.will_hold_out import WillHoldOut  # numpy, which most looks need not

    held_out = None if pairs is None else WillHoldOut(pairs)
    reading = read_demonstrations(data)
    tally, usable = Tally(), _Usable()
    for number, found in reading.pairs:
        tally.num_rows += 1
        if isinstance(found, Drop):
            tally.drop(number, found)
        elif held_out is not None and found.prompt in held_out:
            tally.drop(number, Drop.HELD_OUT)
        else:
            usable.add(found, "train")
    return _inspection(reading, tally, usable)


class _Usable:
    """Counts of the rows that can serve, by split."""

    def __init__(self) -> None:
        self.splits, self.prompt_bytes, self.reply_bytes = (
            Counter[Split](),
            Counter[Split](),
            Counter[Split](),
        )

    def add(self, pair: Pair, split: Split) -> None:
        self.splits[split] += 1
        self.prompt_bytes[split] += _bytes(readable(pair.prompt))
        self.reply_bytes[split] += _bytes(pair.chosen) + _bytes(pair.rejected)


def _inspection(reading: Reading, tally: Tally, usable: _Usable) -> Inspection:
    return Inspection(
        form=reading.form,
        columns=reading.columns,
        num_rows=tally.num_rows,
        dropped=tally.dropped(),
        num_dropped=tally.num_dropped,
        splits=usable.splits,
        prompt_bytes=usable.prompt_bytes,
        reply_bytes=usable.reply_bytes,
    )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
