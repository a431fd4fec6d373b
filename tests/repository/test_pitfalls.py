"""The page of known traps names tests that exist, for every trap."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.harness.audit.cases import PLANTED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
TRAPS = [paragraph for paragraph in PAGE.split("\n\n") if paragraph.startswith("**")]
PLANTED_BY = "test_an_unfairness_is_caught_by_the_check_meant_for_it"
CASES = re.compile(rf"::{PLANTED_BY}`\s\(([^)]+)\)")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_the_page_has_the_traps() -> None:
    assert len(TRAPS) == 18


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.split("**")[1])
def test_every_test_named_for_a_trap_exists(trap: str) -> None:
    named = NAMED.findall(trap)
    assert named
    assert len(named) == trap.count("::")
    assert [f"{file}::{name}" for file, name in named if name not in _tests(file)] == []


def test_cases_named_for_a_trap_are_cases_that_are_planted() -> None:
    named = [name for found in CASES.findall(PAGE) for name in found.replace("\n", " ").split("; ")]
    assert len(named) > 5
    assert PAGE.count(f"::{PLANTED_BY}`") == len(CASES.findall(PAGE))  # the test alone says nothing
    assert [name for name in named if name not in {planted.words for planted in PLANTED}] == []


@cache
def _tests(file: str) -> set[str]:
    """Names of the test functions at the top of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
