"""The pages about commands and config keys say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import typer

from harness.cli import app
from harness.config_page import page
from harness.records import Status
from pipelines.data.drops import Drop

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_the_page_of_config_keys_is_that_of_the_models() -> None:
    assert (DOCS / "config.md").read_text(encoding="utf-8") == page(), "run `make config-page`"


def test_every_command_and_every_option_is_documented() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    commands = getattr(typer.main.get_command(app), "commands", {})
    assert commands
    for name, command in commands.items():
        assert f"## `prefduel {name}" in text
        options = [
            option for parameter in command.params for option in parameter.opts if option.startswith("--")
        ]
        assert [option for option in options if option not in text] == []


def test_every_status_has_its_line_and_every_test_that_is_named_is_there() -> None:
    text = (DOCS / "failures.md").read_text(encoding="utf-8")
    tests = {
        name
        for path in DOCS.parent.glob("tests/**/test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"\b(test_\w+)`", text))
    assert len(named) >= 12
    assert named <= tests
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert told == set(get_args(Status)) - {"done", "interrupted"}


def test_every_reason_for_which_a_row_is_dropped_is_told_and_no_other() -> None:
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    section = text.partition("## Rows that are dropped")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {reason for row in rows for reason in re.findall(r"`([^`]+)`", row)}
    assert told == {reason.value for reason in Drop}


@pytest.mark.parametrize("page_of_text", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page_of_text: Path) -> None:
    """Reports that are linked to are made by long runs and committed with the results behind them."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page_of_text.read_text(encoding="utf-8")))
    for link in links:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = page_of_text.parent / file if file else page_of_text
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """What a forge makes of the headings: lower case, hyphens for blanks, nothing else that is no word."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
