"""The table of the budget shows epochs, pairs, tokens and seconds of every arm, whichever of them was matched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.plan import COMPARISON
from harness.report.budget import budget_blocks
from harness.report.page import Table
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import NUM_STEPS, Run, make_results

UNITS = ["epochs", "pairs", "tokens", "seconds"]


@pytest.mark.parametrize("match", [*UNITS, "none"])
def test_all_four_budgets_are_shown_whichever_was_matched(tmp_path: Path, match: str) -> None:
    folder = make_results(tmp_path, Run())
    path = folder / COMPARISON
    plan = json.loads(path.read_text())
    plan["comparison"]["budget"] = {"match": match}
    path.write_text(json.dumps(plan))
    results = read_results(folder)
    (table,) = (
        block for block in budget_blocks(View(results, make_summary(results))) if isinstance(block, Table)
    )
    assert table.head == ["arm", *(f"{unit} (matched)" if unit == match else unit for unit in UNITS)]
    shown = {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}
    pairs = NUM_STEPS * 16
    assert set(shown) == {"orpo", "sft-dpo"}
    for arm, num_stages, tokens in (("orpo", 1, 120 * pairs), ("sft-dpo", 2, 180 * pairs)):
        epochs, *amounts = shown[arm]
        assert len(epochs.split(" + ")) == num_stages
        assert amounts[0].startswith(f"{num_stages * pairs:,}")
        assert amounts[1].startswith(f"{tokens:,}")
        assert float(amounts[2].split()[0]) > 0
