"""Costs of stages that ran side by side: said to be unreliable wherever a sentence rests on them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness.concurrency import CONCURRENCY, Concurrency, Tried
from harness.recommendation import verdict_lines
from harness.records import RECORD
from harness.report.write import write_report
from harness.sentences import SIDE_BY_SIDE
from harness.summary import summarise
from tests.harness.fixtures_results import Run, make_results
from tests.harness.test_gate import against

TOGETHER = {"workers": 2, "metering": "relaxed"}


def test_where_stages_ran_side_by_side_every_sentence_on_seconds_says_so(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5, num_items=200, changes=TOGETHER))
    summary = summarise(folder)
    relaxed = {ratio.quantity: ratio.relaxed for ratio in summary.cost_ratios}
    assert relaxed == {
        "train_seconds": True, "total_seconds": True, "peak_memory_bytes": False, "num_policy_tokens": False,
    }  # fmt: skip
    assert SIDE_BY_SIDE in verdict_lines(summary)[0]
    said = "the machine was shared while 15 of 15 training stages ran (up to 2 stages ran at a time by `metering: relaxed`)"
    assert f"{said}: the costs are unreliable" in summary.doubts
    (one_pass,) = [claim for claim in summary.claims if claim.name == "lands_in_one_pass"]
    assert (one_pass.status, one_pass.measured_by) == ("not measured", "metering: strict")
    (check,) = [check for check in summary.audit.checks if check.id == "machine_to_itself"]  # type: ignore[union-attr]
    assert check.status == "warning"
    page = write_report(folder, tmp_path / "reports").read_text()
    assert re.search(r"\| stages at a time +\| `2 \(metering: relaxed\)`", page)
    assert "Unreliable: the machine was shared while 15 of 15 training stages ran" in page


def test_where_each_stage_ran_alone_nothing_is_said_of_stages_at_a_time(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    assert "at a time" not in write_report(folder, tmp_path / "reports").read_text()


def test_what_auto_came_to_is_said_with_what_was_measured(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5, changes=TOGETHER))
    tried = [
        Tried(threads=2, workers=1, steps_per_second=1.0),
        Tried(threads=1, workers=2, steps_per_second=1.5),
    ]
    choice = Concurrency(question="", threads=1, workers=2, tried=tried)
    (folder / CONCURRENCY).write_text(choice.model_dump_json())
    page = write_report(folder, tmp_path / "reports").read_text()
    assert (
        "Chosen for auto: 2 stages at a time with 1 thread each, by measurement before the first stage"
        in page
    )
    assert "1 stage at a time with 2 threads 1.00; 2 stages at a time with 1 thread each 1.50" in page


def test_seconds_of_stages_side_by_side_are_not_held_against_those_of_stages_alone(tmp_path: Path) -> None:
    alone = make_results(tmp_path / "a", Run(seeds=5))
    together = make_results(tmp_path / "b", Run(seeds=5, changes=TOGETHER))
    for here, baseline in ((alone, together), (together, alone)):
        found = against(here, baseline)["orpo training"]
        assert found.fails
        assert "cannot be compared: stages ran side by side" in found.text
    again = make_results(tmp_path / "again", Run(seeds=5, changes=TOGETHER))
    for path in again.glob(f"*/{RECORD}"):  # measured anew, a second later
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"started_at": "2030-01-01T00:00:00+00:00"}))
    both = against(again, together)["orpo training"]
    assert not both.fails
    assert both.text.endswith("unreliable, as stages ran side by side (metering: relaxed)")
    memory = {"metric": "gold_score", "margin": 0.02, "cost": "peak_memory"}
    by_memory = [
        make_results(tmp_path / name, Run(seeds=5, changes=changes, decision=memory))
        for name, changes in (("c", {}), ("d", TOGETHER))
    ]
    assert not against(*by_memory)["orpo peak"].fails
