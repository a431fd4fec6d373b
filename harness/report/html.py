"""Formats a page as one HTML file: figures inline, nothing is fetched, readable without its script.

Three walls keep others' text in its place: jinja2 escapes every value; unprintable and reordering characters are shown
by name, as in Markdown; and the page's own policy lets a browser load nothing and run nothing but the one script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.hostile import block, terminal
from harness.report.page import Code, Drawn, Figure, Inline, Link, Listing, Page, Text
from harness.report.palette import COLOURS, INK, PAPER

TEMPLATES = Path(__file__).parents[1] / "templates"
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"
_IDS = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_INLINE_LIMIT = 2000


def render_html(page: Page, drawn: Mapping[str, Drawn] | None = None) -> str:
    """The page as one HTML document.

    Args:
        page: What it says.
        drawn: The drawing of each of its figures, by stem.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    environment.globals["zip"] = zip
    environment.filters |= {
        "inline": _inline,
        "listing": _listing,
        "svg": lambda figure: _svg(figure, (drawn or {})[figure.stem].svg),
        "kind": _kind,
        "anchor": anchor,
    }
    script = (TEMPLATES / SCRIPT).read_text(encoding="utf-8").strip()
    return environment.get_template(TEMPLATE).render(
        page=page,
        style=Markup((TEMPLATES / STYLE).read_text(encoding="utf-8").strip()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sortable=any(
            getattr(block, "sortable", False) for section in page.sections for block in section.blocks
        ),
    )


def anchor(title: str) -> str:
    """The id of a section's heading."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _kind(value: object) -> str:
    return type(value).__name__


def _inline(text: Text) -> Markup:
    parts: tuple[Inline, ...] = text if isinstance(text, tuple) else (text,)
    return Markup("").join(_part(part) for part in parts)


def _part(part: Inline) -> Markup:
    match part:
        case Code():
            return Markup("<code>{}</code>").format(terminal(part.text, limit=part.limit) or "(empty)")
        case Link():
            return Markup('<a href="{}">{}</a>').format(
                f"{quote(part.page, safe='')}.html", terminal(part.text, limit=_INLINE_LIMIT)
            )
        case str():
            return escape(terminal(part, limit=_INLINE_LIMIT))


def _listing(listing: Listing) -> str:
    return block(listing.text, limit=listing.limit, max_lines=listing.max_lines)


def _svg(figure: Figure, svg: bytes) -> Markup:
    """The drawing as an element of the page: ids of its own, colours that follow light and dark."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.S)
    text = _IDS.sub(rf"\g<1>{figure.stem}-", text)
    for place, colour in enumerate(COLOURS):
        text = text.replace(colour.lower(), f"var(--series-{place})")
    text = text.replace(INK, "currentColor").replace(f"fill: {PAPER}", "fill: none")
    label = Markup('<svg role="img" aria-label="{}"').format(terminal(figure.alt, limit=_INLINE_LIMIT))
    return label + Markup(text.removeprefix("<svg").strip())
