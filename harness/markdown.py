"""Markdown tables whose columns stand under each other in plain text, too."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "") -> str:
    """A table; the cells are Markdown already.

    Args:
        head: Names of the columns.
        rows: Cells, as many as there are columns.
        align: A letter for each column, `l` or `r`; by default the first is left, the others right.
    """
    sides = align or "l" + "r" * (len(head) - 1)
    widths = [max(3, *(_width(row[column]) for row in [head, *rows])) for column in range(len(head))]
    ruler = [
        "-" * (width - 1) + (":" if side == "r" else "-") for width, side in zip(widths, sides, strict=True)
    ]
    return "\n".join(
        "| " + " | ".join(_padded(*parts) for parts in zip(row, widths, sides, strict=True)) + " |"
        for row in [head, ruler, *rows]
    )


def _padded(text: str, width: int, side: str) -> str:
    space = " " * (width - _width(text))
    return space + text if side == "r" else text + space


def _width(text: str) -> int:
    """Columns in a terminal: wide East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
