"""The pages about commands and config keys say what the code does."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.cli import app
from harness.config_page import page

DOCS = Path(__file__).parents[2] / "docs"


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
