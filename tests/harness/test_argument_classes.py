"""Every argument that a config may set is either compared between stages or free for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.argument_classes import ANOTHER_OF_DPO, EQUAL, FREE, SET_BY_STAGE
from harness.trainer_fields import all_argument_names, refused_arguments

PAGE = Path(__file__).parents[2] / "docs" / "fairness.md"
SET_BY_THE_HARNESS = {name for name, _ in refused_arguments()}


@pytest.mark.parametrize("name", sorted(all_argument_names()))
def test_an_argument_is_compared_or_free_or_set_by_the_harness(name: str) -> None:
    classes = {"compared": name in EQUAL, "free": name in FREE, "set": name in SET_BY_THE_HARNESS}
    found = [told for told, holds in classes.items() if holds]
    assert len(found) == 1, f"put {name} into harness/argument_classes.py, in one place (found: {found})"


def test_no_name_is_listed_that_no_trainer_has() -> None:
    assert all_argument_names() >= EQUAL | FREE.keys() | {ANOTHER_OF_DPO}
    assert SET_BY_THE_HARNESS >= SET_BY_STAGE


def test_every_free_argument_stands_with_its_reason_in_the_page() -> None:
    rows = [
        line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    told = {name.strip(" `"): row[2].strip() for row in rows for name in row[1].split(",")}
    assert {name: told.get(name) for name in FREE} == FREE
