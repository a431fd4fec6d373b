"""A stage that several arms share, and one that is paid beside training: the same seconds in every place of a page."""

from __future__ import annotations

import json

import pytest

from harness.forecast.history import FORECAST
from harness.numbers import number
from harness.plan import read_plan
from harness.records import UNBILLED
from harness.report.bill import bill_section
from harness.report.learning import _curves
from harness.report.page import Table
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import LEVELS, Run, make_results
from tests.harness.forecast.made_up import forecast

LOOK_SECONDS = 2.0
ARMS = {
    "sft-orpo": [{"trainer": "sft"}, {"trainer": "orpo"}],
    "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo", "reference": "precomputed"}],
}
RUN = Run(
    seeds=4,
    levels=LEVELS | {"sft-orpo": 0.75},
    changes={"arms": ARMS},
    decision={"metric": "gold_score", "compare": ["sft-orpo", "sft-dpo"]},
)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    folder = make_results(tmp_path_factory.mktemp("shared"), RUN)
    (folder / FORECAST).write_text(forecast(read_plan(folder)).model_dump_json())
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        if record["outcome"]["kind"] == "train":
            cost = record["cost"]
            cost["phases"].append(cost["phases"][0] | {"name": UNBILLED, "seconds": LOOK_SECONDS})
            cost["total_seconds"] += LOOK_SECONDS
            path.write_text(json.dumps(record))
    results = read_results(folder)
    return View(results, make_summary(results))


def seconds_of_sft(table: Table) -> list[str]:
    """Training seconds of each row that is the shared stage, or the model that it makes."""
    if "train s" not in table.head and "train s forecast" not in table.head:
        return []
    measured = table.head.index("train s") if "train s" in table.head else table.head.index("measured", 6)
    return [str(row[measured]) for row in table.rows if row[0] == "sft" or row[1] in ("sft", "1. sft")]


def test_all_tables_of_the_bill_have_one_mean_for_the_shared_sft_stage(view: View) -> None:
    found = [
        seconds
        for block in bill_section(view).blocks
        if isinstance(block, Table)
        for seconds in seconds_of_sft(block)
    ]
    mean = view.summary.controls["sft"].cost.train_seconds
    assert mean is not None
    # The model; each arm by stage, twice; once where forecast and measured stand side by side.
    assert len(found) == 1 + 2 + 2 + 1
    assert [float(seconds) for seconds in found] == pytest.approx([mean] * 6, rel=0.002)


def test_the_loss_curve_ends_at_the_seconds_of_the_bill(view: View) -> None:
    for trial in view.models["sft-dpo"]:
        curves = _curves(view, trial, 1)
        costs = [view.results.records[stage_id].cost for stage_id in trial.billed()]
        assert curves is not None
        assert len(costs) == 3
        assert curves[1].x[-1] == pytest.approx(sum(cost.train_seconds for cost in costs if cost is not None))


def test_shared_seconds_and_looks_add_up_to_the_whole_run(view: View) -> None:
    trained = [one for one in view.summary.spent if one.kind in ("sft", "orpo", "dpo", "reference")]
    billed = [about.cost.shared_seconds for name, about in view.summary.models().items() if name != "base"]
    looks = sum(one.look_seconds for one in trained)
    assert looks == pytest.approx(3 * 4 * LOOK_SECONDS)
    assert 4 * sum(each or 0 for each in billed) + looks == pytest.approx(
        sum(one.total_seconds for one in trained)
    )
    (table,) = (
        block
        for block in bill_section(view).blocks
        if isinstance(block, Table) and block.head[0] == "kind of stage"
    )
    shown = {row[0]: row[2:] for row in table.rows}
    assert shown["sft"] == (number(next(one.total_seconds for one in trained if one.kind == "sft")), "8.00")
