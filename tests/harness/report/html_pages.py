"""Reads an HTML page as a browser's parser would: its elements, its texts, what it could load or run."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Document(HTMLParser):
    """A parsed page.

    Attributes:
        elements: Name and attributes of every element, in order.
        cells: Text of every table cell, in order.
        scripts: Text of every script.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.scripts: list[str] = []
        self.comments: list[str] = []
        self.title = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        elif "td" in self._open or "th" in self._open:
            self.cells[-1] += data
        elif "title" in self._open:
            self.title += data

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every element with the names of its attributes, without any text."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def loads(self) -> list[str]:
        """What the page would fetch or run besides itself."""
        found = []
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                inert = value.startswith("#") or value == "data:,"
                loading = name in (
                    "src",
                    "href",
                    "xlink:href",
                    "action",
                    "srcset",
                    "poster",
                    "data",
                    "background",
                )
                if name.startswith("on") or (loading and not inert):
                    found.append(f"<{tag} {name}={value}>")
                if name == "style" and "url(" in value.replace("url(#", ""):
                    found.append(f"<{tag} style={value}>")
            if tag in ("iframe", "object", "embed", "base", "form", "img", "audio", "video"):
                found.append(f"<{tag}>")
        return found
