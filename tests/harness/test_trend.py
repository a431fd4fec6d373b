"""Many nights on one page: dates in order, numbers of the summaries, and what changed between them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.cli import main
from harness.identity import IDENTITY
from harness.records import RECORD
from harness.summary import summarise
from harness.trend import read_nights, trend_page
from tests.harness.fixtures_results import Run, make_results


def night(parent: Path, date: str, run: Run | None = None) -> Path:
    folder = make_results(parent / date, run or Run())
    content = json.loads((folder / "comparison.json").read_text())
    content["night"] = date
    (folder / "comparison.json").write_text(json.dumps(content))
    return folder


def edit(folder: Path, **changes: object) -> None:
    for path in folder.glob(f"*/{RECORD}"):
        record = json.loads(path.read_text())
        for key, value in changes.items():
            part = record
            *outer, last = key.split("__")
            for name in outer:
                part = part[name]
            part[last] = value
        path.write_text(json.dumps(record))


def page_of(*folders: Path) -> str:
    return trend_page(read_nights(list(folders)))


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def test_nights_stand_in_the_order_of_their_dates_with_the_summaries_numbers(tmp_path: Path) -> None:
    later, earlier = night(tmp_path, "2026-11-25"), night(tmp_path, "2026-11-24")
    page = page_of(later, earlier)
    assert re.findall(r"^\| (2026-\d\d-\d\d)", section(page, "Verdict by date"), re.M) == [
        "2026-11-24",
        "2026-11-25",
    ]
    summary = summarise(later)
    assert f"{summary.arms['orpo'].metrics['gold_score'].mean:.3f}" in section(page, "Metric by date")
    seconds = summary.arms["orpo"].cost.train_seconds
    assert f"{seconds:.2f}" in section(page, "Cost by date")
    assert "nothing that is known of" in section(page, "What changed")


def test_every_kind_of_change_between_nights_is_told(tmp_path: Path) -> None:
    first = night(tmp_path, "2026-11-24")
    changed = Run(changes={"threads": 2, "data": {"path": "toy", "num_pairs": 400}})
    second = night(tmp_path, "2026-11-25", changed)
    edit(second, versions={"python": "3.11.0", "torch": "2.14.0", "trl": "1.16.0"})
    edit(second, machine__accelerator="A new GPU")
    data = next(second.glob(f"data-*/{RECORD}"))
    record = json.loads(data.read_text())
    record["outcome"]["content_hash"] = "fedcba9876543210"
    data.write_text(json.dumps(record))
    for folder, digest in ((first, "1"), (second, "2")):
        stage = next(folder.glob("orpo-*"))
        (stage / IDENTITY).write_text(json.dumps({"code": {"pipelines.training.orpo": digest}}))
    told = section(page_of(first, second), "What changed")
    for change in (
        "`config threads`: `1` became `2`",
        "`config data.num_pairs`: `500` became `400`",
        "`data`: `0123456789ab` became `fedcba987654`",
        "`version torch`: `2.13.0` became `2.14.0`",
        "`hardware accelerator`: `None` became `A new GPU`",
        "`code pipelines.training.orpo`",
    ):
        assert change in told
    assert "python" not in told


def test_training_that_was_measured_again_is_compared_to_the_bit(tmp_path: Path) -> None:
    first, second, third = (night(tmp_path, f"2026-11-2{day}") for day in (4, 5, 6))
    edit(second, started_at="2026-11-25T01:00:00+00:00")
    edit(third, started_at="2026-11-26T01:00:00+00:00")
    record = next(third.glob(f"orpo-*/{RECORD}"))
    content = json.loads(record.read_text())
    content["outcome"]["weights_hash"] = "another"
    record.write_text(json.dumps(content))
    told = section(page_of(first, second, third), "Measured again")
    assert "2026-11-25: of 9 trainings that an earlier night had as well, 9 gave the same" in told
    assert "2026-11-26: of 9 trainings that an earlier night had as well, 8 gave the same" in told


def test_what_was_taken_over_was_not_measured_again(tmp_path: Path) -> None:
    page = page_of(night(tmp_path, "2026-11-24"), night(tmp_path, "2026-11-25"))
    assert "no training was measured more than once" in section(page, "Measured again")


def test_the_page_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = night(tmp_path, "2026-11-24")
    assert main(["trend", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "# Trend of 1 night" in printed
    assert main(["trend", str(folder), "--output", str(tmp_path / "trend.md")]) == 0
    assert (tmp_path / "trend.md").read_text() == printed
    assert main(["trend", str(tmp_path / "gone")]) == 2


def test_seconds_of_a_night_whose_stages_ran_side_by_side_are_marked(tmp_path: Path) -> None:
    together = Run(changes={"workers": 2, "metering": "relaxed"})
    page = page_of(night(tmp_path, "2026-11-24"), night(tmp_path, "2026-11-25", together))
    costs = section(page, "Cost by date")
    marked = {line[2:12]: line.count("(relaxed)") for line in costs.splitlines() if line.startswith("| 2026")}
    assert marked == {"2026-11-24": 0, "2026-11-25": 3}  # two arms and their ratio
    assert "unreliable, as stages ran side by side" in costs
    assert "relaxed" not in section(page_of(night(tmp_path / "alone", "2026-11-24")), "Cost by date")


def test_a_night_that_judged_something_else_says_so_in_its_row(tmp_path: Path) -> None:
    first = night(tmp_path, "2026-11-24")
    turned = Run(decision={"metric": "preference_accuracy", "compare": ["sft-dpo", "orpo"]})
    page = page_of(first, night(tmp_path, "2026-11-25", turned))
    verdicts = section(page, "Verdict by date")
    assert re.search(r"^\| 2026-11-24.*\| orpo minus sft-dpo on gold\\?_score +\|", verdicts, re.M)
    assert re.search(r"^\| 2026-11-25.*\| sft-dpo minus orpo on preference\\?_accuracy +\|", verdicts, re.M)
    costs = section(page, "Cost by date")
    assert re.search(r"^\| 2026-11-24.*\| orpo / sft-dpo +\|", costs, re.M)
    assert re.search(r"^\| 2026-11-25.*\| sft-dpo / orpo +\|", costs, re.M)
