"""How to run a comparison again, and what may differ elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.report.environment import reproduce_section
from harness.report.markdown import render_markdown
from harness.report.page import Page
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import Run, make_results


@pytest.mark.parametrize(
    ("changes", "one_base"),
    [
        ({}, True),
        ({"base_per_seed": True}, False),
        ({"model": {"name": "some/model"}}, False),
    ],
    ids=["one toy base", "a toy base for each seed", "a base that is given"],
)
def test_another_machine_has_another_base_only_where_the_run_pre_trains_one(
    tmp_path: Path, changes: dict[str, Any], one_base: bool
) -> None:
    results = read_results(make_results(tmp_path, Run(seeds=3, changes=changes)))
    section = reproduce_section(View(results, make_summary(results)))
    page = render_markdown(Page("page", "page", [], [section]))
    assert "rounds otherwise" in page
    assert ("it would be another base" in page) == one_base
