"""The HTML report: what the Markdown says, in one file that loads nothing, whatever is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from harness.report import write_report
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.page import (
    Bullets,
    Code,
    Drawn,
    Figure,
    Heading,
    Listing,
    Page,
    Paragraph,
    Reply,
    Section,
    SideBySide,
    Table,
)
from tests.harness.fixtures_results import Run, make_results
from tests.harness.hostile_texts import PAYLOADS
from tests.harness.report.html_pages import Document

DRAWN = Drawn(
    b'<svg width="1"><g id="a"><path style="fill: #1a1a1b"/><use xlink:href="#a"/></g></svg>',
    png=b"",
)
DRAWINGS = {"drawing": DRAWN}


def page_with(text: str) -> Page:
    """A page with `text` in every place that a text can have: in sentences of ours, as code, in blocks."""
    listing, ours = Listing(text), f"of {text} it is"
    blocks = [
        Paragraph((ours, Code(text))),
        Heading(ours),
        Bullets([ours, Code(text)]),
        Table([ours, "b"], [[text, Code(text)]], caption=ours, sortable=True),
        Figure("drawing", ours, ours, lambda: DRAWN),
        listing,
        SideBySide([Reply(ours, listing)]),
    ]
    return Page(
        "page", ours, [(ours, ours)], [Section("One", blocks), Section("Two", []), Section("Three", [])]
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Markdown and HTML of five seeds."""
    parent = tmp_path_factory.mktemp("html")
    page = write_report(make_results(parent, Run(seeds=5)), parent / "reports")
    return page.read_text(), page.with_suffix(".html").read_text()


def test_both_formats_have_the_same_cells(written: tuple[str, str]) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(written[0])
    inlines = [
        tokens[place + 1] for place, token in enumerate(tokens) if token.type in ("th_open", "td_open")
    ]
    cells = ["".join(child.content for child in inline.children or []) for inline in inlines]
    assert len(cells) > 300
    assert Document(written[1]).cells == cells


def test_the_page_loads_nothing(written: tuple[str, str]) -> None:
    document = Document(written[1])
    assert document.loads() == []
    assert document.scripts == []
    assert "@import" not in written[1]


def test_every_figure_says_in_words_what_it_shows(written: tuple[str, str]) -> None:
    drawings = [attributes for tag, attributes in Document(written[1]).elements if tag == "svg"]
    assert len(drawings) == 5
    assert all(len(drawing["aria-label"]) > 40 and drawing["role"] == "img" for drawing in drawings)


def test_ids_are_unique_and_every_reference_finds_its_own(written: tuple[str, str]) -> None:
    elements = Document(written[1]).elements
    ids = Counter(attributes["id"] for _, attributes in elements if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    references = re.findall(r'(?:url\(|href=")#([^")]+)', written[1])
    assert len(references) > 50
    assert set(references) <= set(ids)


def test_drawings_take_the_colours_of_the_page(written: tuple[str, str]) -> None:
    assert "currentColor" in written[1]
    assert "var(--series-1)" in written[1]
    assert "#fffffe" not in written[1]


def test_only_the_one_script_may_run() -> None:
    text = render_html(page_with("x"), DRAWINGS)
    (script,) = Document(text).scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text or f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_page_keeps_its_elements_whatever_is_in_its_texts(payload: str) -> None:
    text = render_html(page_with(payload), DRAWINGS)
    document = Document(text)
    assert document.shape == Document(render_html(page_with("x"), DRAWINGS)).shape
    assert document.loads() == []
    assert document.comments == []
    assert all(character.isprintable() or character == "\n" for character in text)
    text.encode()


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_the_markdown_keeps_its_structure_whatever_is_in_its_texts(payload: str) -> None:
    def kinds(text: str) -> list[str]:
        parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        tokens = parser.parse(render_markdown(page_with(text)))
        inner = [child.type for token in tokens for child in token.children or []]
        assert not {"html_inline", "link_open"} & set(inner)
        assert inner.count("image") == 1
        return [token.type for token in tokens]

    assert kinds(payload) == kinds("x")


def test_what_a_run_left_changes_nothing_of_the_page(tmp_path: Path) -> None:
    def shape(name: str, hostile: str, texts: tuple[str, ...]) -> Document:
        failed = {("orpo", 0): ("failed", hostile)}
        changes = {
            "model": {"name": "toy", "chat_template": hostile},
            "evaluations": {"generation": {"judges": ["gold"]}, "benchmarks": {"tasks": ["toy_task"]}},
        }
        run = Run(num_items=8, failed=failed, replies=texts, changes=changes)  # type: ignore[arg-type]
        page = write_report(make_results(tmp_path / name, run), tmp_path / name / "reports")
        return Document(page.with_suffix(".html").read_text())

    hostile = shape("hostile", PAYLOADS[0] + "\n</script><script>x</script>", PAYLOADS[:8])
    assert hostile.shape == shape("harmless", "x", ("x",)).shape
    assert hostile.loads() == []
