"""What a report says, before it is formatted. Both formats show exactly this; neither computes a number.

A plain `str` is a sentence of our own, with the names in it. What others wrote stands in `Code` and `Listing`.
Every text, also our own, is made safe by the formatter: nothing here is markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_ROWS = 200  # of a table; beyond, it is cut


@dataclass(frozen=True)
class Code:
    """Text of others, an id or a command, inside a line; shown as code, cut after `limit` characters."""

    text: str
    limit: int = 200


@dataclass(frozen=True)
class Link:
    """A link to another page of the same folder, in the same format."""

    text: str
    page: str


Inline = str | Code | Link
Text = Inline | tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """One paragraph."""

    text: Text


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of lines."""

    lines: Sequence[Text]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        align: A letter for each column, `l` or `r`; by default the first is left, the others right.
        caption: What is counted, over how many seeds and items.
        sortable: Whether a reader of the HTML may sort it.
    """

    head: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    align: str = ""
    caption: str = ""
    sortable: bool = False

    @property
    def sides(self) -> str:
        """A letter for each column."""
        return self.align or "l" + "r" * (len(self.head) - 1)


class Drawn(NamedTuple):
    """A drawing in both formats."""

    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Figure:
    """A drawing, its caption and what it shows in words for those who cannot see it.

    Attributes:
        stem: Of its files.
        draw: Draws it, in whichever process: it can be pickled.
    """

    stem: str
    alt: str
    caption: str
    draw: Callable[[], Drawn] = field(repr=False)


@dataclass(frozen=True)
class Listing:
    """A block of code, or of text that others wrote."""

    text: str
    language: str = "text"
    limit: int = 600
    max_lines: int = 30


@dataclass(frozen=True)
class Reply:
    """One model's reply under a line that says whose."""

    about: Text
    reply: Listing


@dataclass(frozen=True)
class SideBySide:
    """Replies of several models to one prompt."""

    replies: Sequence[Reply]


Block = Paragraph | Heading | Bullets | Table | Figure | Listing | SideBySide


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        name: Of the file, and of the folder with the figures.
        lines: What stands above everything: a label and a sentence each.
    """

    name: str
    title: str
    lines: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def figures(self) -> list[Figure]:
        """Every figure, in the order of the page."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def cut(table: Table, export: str, *, most: int = MOST_ROWS) -> list[Block]:
    """The table, at most `most` rows of it, and where the rest can be read.

    Args:
        table: May be of any length.
        export: The command that writes the results as tables.
        most: Rows that are shown.
    """
    if len(table.rows) <= most:
        return [table]
    shown = Table(table.head, table.rows[:most], table.align, table.caption, table.sortable)
    # Not every table of a page is an exported one, but each is made from these.
    note = (
        f"Cut: {most:,} of {len(table.rows):,} rows. The rest is in ",
        Code("summary.json"),
        " and the stages' files; items, scores, trials and stages as tables: ",
        Code(export),
    )
    return [shown, Paragraph(note)]
