"""Hostile text stays where it was put: on a Markdown page and in a terminal."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.hostile import at_start, cell, code_span, escaped, fenced, terminal, visible, without_paths
from tests.harness.hostile_texts import PAYLOADS

EACH = pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
# What a code host renders: tables, strikethrough, raw HTML, bare links. (Bare links need linkify-it-py: not used;
# that no text stands outside a code span shows the same.)
RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def shape(page: str) -> list[str]:
    """The types of all tokens, those inside paragraphs and cells included, without their texts."""

    def walk(tokens: list[Token]) -> list[str]:
        found = []
        for token in tokens:
            found += [token.type, *walk(token.children or [])]
        return found

    return walk(RENDER.parse(page))


@EACH
def test_a_table_keeps_its_shape_whatever_is_in_a_cell(payload: str) -> None:
    def page(text: str) -> str:
        return f"before\n\n| a | b |\n| --- | --- |\n| {text} | end |\n| 1 | 2 |\n\nafter\n"

    empty = cell("") in cell(payload)
    assert shape(page(cell(payload))) == shape(page("(empty)" if empty else "`x`"))


@EACH
def test_a_paragraph_keeps_its_shape_whatever_is_in_a_code_span(payload: str) -> None:
    empty = code_span(payload) == "(empty)"
    found = shape(f"# a\n\nfound {code_span(payload)} here\n\nafter\n")
    assert found == shape(f"# a\n\nfound {'(empty)' if empty else '`x`'} here\n\nafter\n")


@EACH
def test_a_page_keeps_its_shape_whatever_is_in_a_fence(payload: str) -> None:
    found = shape(f"before\n\n{fenced(payload)}\n\nafter\n")
    assert found == shape("before\n\n```text\nx\n```\n\nafter\n")


@EACH
def test_a_sentence_with_a_strange_name_stays_plain_text(payload: str) -> None:
    kinds = set(shape(f"The task {escaped(payload)} was measured.\n"))
    assert kinds <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}


@EACH
def test_nothing_unprintable_is_left_for_a_terminal(payload: str) -> None:
    assert terminal(payload).isprintable()
    assert len(terminal(payload)) < 16_100


@EACH
def test_what_is_shown_can_be_written_as_utf8(payload: str) -> None:
    fenced(payload).encode()


@EACH
def test_what_is_shown_is_of_bounded_length(payload: str) -> None:
    assert len(fenced(payload)) < 10_000
    assert len(cell(payload)) < 3_000


def test_ordinary_text_is_shown_as_it_is() -> None:
    text = 'Grüße, "Ada" - 5 % (see §2): 日本語 and "naïve_name"'
    assert visible(text, limit=100) == text
    assert escaped("gold_score of sft-dpo, 95 % interval -0.1 to +0.2") == (
        "gold_score of sft-dpo, 95 % interval -0.1 to +0.2"
    )


@pytest.mark.parametrize(
    "text", ["- a", "+ a", "-", "1. a", "12) a", "---", "===", "    a", "# a", "> a", "1."]
)
def test_a_paragraph_begins_no_other_block(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"before\n\n{at_start(escaped(text))}\n")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"] * 2
    assert at_start("-0.5 to 1.5 and - a") == "-0.5 to 1.5 and - a"


def test_a_cut_is_said() -> None:
    assert visible("abcdef", limit=3) == "abc … [cut: 3 of 6 characters]"
    assert "[cut: 2 of 4 lines]" in fenced("a\nb\nc\nd", max_lines=2)


def test_control_characters_are_shown_by_name() -> None:
    assert visible("a\x1b[0m\x00\u202e\x7f\n", limit=100) == "a␛[0m␀[U+202E]␡\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no file /home/ada/models/x.bin here", "no file x.bin here"),
        ("'/root/a b'", "'a b'"),
        ("(~/secret/run/)", "(run)"),
        (r"C:\Users\ada\run.json: broken", "run.json: broken"),
        ("file:///home/ada/a.json", "a.json"),
        ("../data/pairs.jsonl and data/pairs.jsonl", "../data/pairs.jsonl and data/pairs.jsonl"),
        ("https://example.org/a/b and org/model", "https://example.org/a/b and org/model"),
        ("open /home/bob smith/x: denied", "open x: denied"),
        (r"open /home/bob\ smith/x: denied", "open x: denied"),
        ("at /tmp/h/home/bob smith/data/p.jsonl", "at p.jsonl"),
        ("at /home/Mary Ann Smith/p.jsonl", "at p.jsonl"),
        (r"at C:\Users\Bob Smith\run.json: broken", "at run.json: broken"),
        (r"at C:\\Users\\Bob Smith\\run.json: broken", "at run.json: broken"),
        (r"'C:\\Users\\bob'", "'~'"),
        ("at /mnt/c/Users/bob and /mnt/c/Users/Bob Smith/x", "at ~ and x"),
        ('no "/home/bob o\'neil/x y"', 'no "x y"'),
        ("no `/data/bob smith/x` here", "no `x` here"),
        ("in /home/ada or docs/x.md, /home/ada and/or y", "in ~ or docs/x.md, ~ and/or y"),
        ("the folder `/`, the mark '/'", "the folder `/`, the mark '/'"),
        ("/home/ada has no space left, see docs/x", "~ has no space left, see docs/x"),
        (r"not JSON: '\x00\x01\x02 a' and \x00\x01", r"not JSON: '\x00\x01\x02 a' and \x00\x01"),
        (r"'\n\t', (\n\t), '\\n'", r"'\n\t', (\n\t), '\\n'"),
        (r"at \\server\share\a.json, '\\server\my share\a.json'", "at a.json, 'a.json'"),
        (r"at \Users\bob\a.json, at D:\a.json", "at a.json, at a.json"),
        ("ratio 1/2, and/or, tokens/s, n / m", "ratio 1/2, and/or, tokens/s, n / m"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_paths(text) == expected
