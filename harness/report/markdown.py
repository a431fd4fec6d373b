"""Formats a page as Markdown that reads well in a terminal, too: tables stand in columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import quote

from harness.hostile import at_start, cell, code_span, escaped, fenced
from harness.report.page import (
    Block,
    Bullets,
    Code,
    Figure,
    Heading,
    Inline,
    Link,
    Listing,
    Page,
    Paragraph,
    SideBySide,
    Table,
    Text,
)


def render_markdown(page: Page) -> str:
    """The page as Markdown; figures are images beside it."""
    parts = ["\n".join(f"- **{escaped(label)}:** {escaped(text)}" for label, text in page.lines)] * bool(
        page.lines
    )
    parts.append(f"# {escaped(page.title)}")
    for section in page.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [_block(page, block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(page: Page, block: Block) -> str:
    match block:
        case Paragraph(text):
            return at_start(_inline(text))
        case Heading(text):
            return f"### {escaped(text)}"
        case Bullets(lines):
            return "\n".join(f"- {at_start(_inline(line))}" for line in lines)
        case Table():
            caption = f"{at_start(escaped(block.caption))}\n\n" if block.caption else ""
            return caption + _table(block)
        case Figure():
            image = f"![{escaped(block.alt)}]({quote(f'{page.name}/{block.stem}')}.svg)"
            return f"{image}\n\n{at_start(escaped(block.caption))}"
        case Listing():
            return _listing(block)
        case SideBySide(replies):
            return "\n\n".join(f"{_inline(reply.about)}\n\n{_listing(reply.reply)}" for reply in replies)


def _listing(listing: Listing) -> str:
    return fenced(listing.text, language=listing.language, limit=listing.limit, max_lines=listing.max_lines)


def _inline(text: Text, code: Callable[..., str] = code_span) -> str:
    parts: tuple[Inline, ...] = text if isinstance(text, tuple) else (text,)
    return "".join(_part(part, code) for part in parts)


def _part(part: Inline, code: Callable[..., str]) -> str:
    match part:
        case Code():
            return code(part.text, limit=part.limit)
        case Link():
            return f"[{escaped(part.text)}]({quote(part.page, safe='')}.md)"
        case str():
            return escaped(part)


def _table(table: Table) -> str:
    lines = [_cells(row) for row in [table.head, *table.rows]]
    widths = [max(3, *(_width(line[column]) for line in lines)) for column in range(len(table.head))]
    sides = zip(widths, table.sides, strict=True)
    lines.insert(1, ["-" * (width - 1) + (":" if side == "r" else "-") for width, side in sides])
    return "\n".join(
        "| " + " | ".join(_padded(*parts) for parts in zip(line, widths, table.sides, strict=True)) + " |"
        for line in lines
    )


def _cells(row: Sequence[Text]) -> list[str]:
    return [_inline(text, cell) for text in row]


def _padded(text: str, width: int, side: str) -> str:
    space = " " * (width - _width(text))
    return space + text if side == "r" else text + space


def _width(text: str) -> int:
    """Columns in a terminal: wide East Asian characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
