"""Earlier forecasts beside what was measured: ratios by hand, and what the report, the trend and the next forecast say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.forecast.history import beside_measured, errors, rates, read_forecast, read_history, records_of
from harness.forecast.lines import first_page
from harness.plan import read_plan
from harness.records import RECORD, write_json
from harness.report.forecast import forecast_blocks
from harness.report.page import Paragraph, Table
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from harness.trend import read_nights, trend_page
from tests.harness.fixtures_results import Run, make_results
from tests.harness.forecast.made_up import MIB, forecast

FORECAST_PEAK, FORECAST_SECONDS = 400 * MIB, 5.0
START = 100 * MIB
# The made-up records have peaks of 500, 700 and 600 MiB, of which the process held 100 when it started.
ABOVE_START = {"sft": 400, "dpo": 600, "orpo": 500}


def edit_record(folder: Path, stage_id: str, *, train_seconds: float | None = None) -> None:
    path = folder / stage_id / RECORD
    content = json.loads(path.read_text())
    for phase in content["cost"]["phases"]:
        if phase["name"] == "start":
            phase["peak_resident_bytes"] = START
    if train_seconds is not None:
        content["cost"]["train_seconds"] = train_seconds
    path.write_text(json.dumps(content))


def results(parent: Path, *, seconds: dict[str, float] | None = None, precomputed: bool = False) -> Path:
    """Two seeds; every stage was forecast at 400 MiB and 5 s."""
    changes = {}
    if precomputed:
        changes = {"arms": {"orpo": [{"trainer": "orpo"}], "sft-dpo": [
            {"trainer": "sft"}, {"trainer": "dpo", "reference": "precomputed"}]}}  # fmt: skip
    folder = make_results(parent, Run(seeds=2, changes=changes))
    plan = read_plan(folder)
    for stage in plan.stages:
        edit_record(folder, stage.id, train_seconds=(seconds or {}).get(stage.kind))
    made = forecast(plan, peak=FORECAST_PEAK, mid=FORECAST_SECONDS)
    write_json(folder / "forecast.json", made.model_dump(mode="json", by_alias=True))
    return folder


def test_memory_is_what_the_process_took_above_its_start_and_seconds_are_the_record_s(tmp_path: Path) -> None:
    folder = results(tmp_path, seconds={"sft": 5.0, "dpo": 10.0, "orpo": 2.5})
    made = read_forecast(folder)
    assert made is not None
    found = beside_measured(made, records_of(folder))
    assert len(found) == 6
    for one in found:
        assert one.memory_ratio == ABOVE_START[one.kind] / 400
        assert one.seconds_ratio == {"sft": 1.0, "dpo": 2.0, "orpo": 0.5}[one.kind]


def test_the_pass_for_precomputed_log_probs_is_measured_with_the_stage_that_reads_them(
    tmp_path: Path,
) -> None:
    folder = results(tmp_path, seconds={"dpo": 10.0, "reference": 5.0}, precomputed=True)
    made = read_forecast(folder)
    assert made is not None
    dpo = [one for one in beside_measured(made, records_of(folder)) if one.kind == "dpo"]
    assert [one.measured_seconds for one in dpo] == [15.0, 15.0]


def test_a_stage_that_failed_or_is_damaged_has_no_measurement(tmp_path: Path) -> None:
    folder = results(tmp_path)
    made = read_forecast(folder)
    assert made is not None
    sft, orpo = (next(one.id for one in made.planned if one.kind == kind) for kind in ("sft", "orpo"))
    (folder / sft / RECORD).write_text("{}")
    content = json.loads((folder / orpo / RECORD).read_text())
    (folder / orpo / RECORD).write_text(json.dumps(content | {"status": "failed", "outcome": None}))
    assert not {sft, orpo} & {one.stage for one in beside_measured(made, records_of(folder))}


def test_the_next_forecast_prints_the_error_of_those_before(tmp_path: Path) -> None:
    """Nine of ten of six is the worst: 600 MiB for 400, and twice or half the seconds."""
    folder = results(tmp_path, seconds={"sft": 5.0, "dpo": 10.0, "orpo": 2.5})
    found = errors(read_history(tmp_path), "cpu")
    assert (found.memory, found.seconds_factor) == (0.5, 2.0)
    assert found.source == "nine of ten of 6 earlier stages on this kind of device were nearer"
    assert errors(read_history(tmp_path), "cuda").seconds_factor is None
    made = forecast(read_plan(folder)).model_copy(
        update={"memory_error": found.memory, "seconds_factor": found.seconds_factor, "error_source": found.source}
    )  # fmt: skip
    assert "error       memory 50%, time a factor of 2.00 (nine of ten of 6" in "\n".join(first_page(made))


def test_speeds_of_earlier_stages_are_their_operations_over_their_seconds(tmp_path: Path) -> None:
    results(tmp_path, seconds={"orpo": 4.0})
    found = rates(
        read_history(tmp_path), device="Test CPU @ 2 GHz", kind="orpo", tuning="full", dtype="float32"
    )
    assert found == [1e9 / 4.0] * 2
    assert rates(read_history(tmp_path), device="another", kind="orpo", tuning="full", dtype="float32") == []
    assert (
        rates(read_history(tmp_path), device="Test CPU @ 2 GHz", kind="orpo", tuning="lora", dtype="float32")
        == []
    )


def test_seconds_of_stages_that_ran_side_by_side_tell_no_forecast_how_fast_a_stage_is(tmp_path: Path) -> None:
    folder = results(tmp_path, seconds={"orpo": 4.0})
    for path in sorted(folder.glob(f"orpo-*/{RECORD}"))[:1]:
        content = json.loads(path.read_text())
        content["cost"]["workers"] = 2
        path.write_text(json.dumps(content))
    history = read_history(tmp_path)
    found = rates(history, device="Test CPU @ 2 GHz", kind="orpo", tuning="full", dtype="float32")
    assert found == [1e9 / 4.0]
    made = read_forecast(folder)
    assert made is not None
    assert sum(one.relaxed for one in beside_measured(made, records_of(folder))) == 1


def test_the_report_shows_each_stage_s_forecast_beside_its_measurement(tmp_path: Path) -> None:
    folder = results(tmp_path, seconds={"sft": 5.0, "dpo": 15.0, "orpo": 2.5})
    read = read_results(folder)
    paragraph, table = forecast_blocks(View(read, make_summary(read)))
    assert isinstance(paragraph, Paragraph)
    assert "resident memory above what it held at its start" in str(paragraph.text)
    assert isinstance(table, Table)
    # 15 s lie outside of 2.5 to 10 s.
    assert table.rows == [
        ("orpo", "orpo", "400 MiB", "500 MiB", "1.25", "5.00", "2.50", "0.500", "2 of 2"),
        ("sft-dpo", "sft", "400 MiB", "400 MiB", "1.00", "5.00", "5.00", "1.00", "2 of 2"),
        ("sft-dpo", "dpo", "400 MiB", "600 MiB", "1.50", "5.00", "15.0", "3.00", "0 of 2"),
    ]


def test_the_report_says_nothing_of_a_forecast_that_is_not_there(tmp_path: Path) -> None:
    folder = results(tmp_path)
    (folder / "forecast.json").unlink()
    read = read_results(folder)
    assert forecast_blocks(View(read, make_summary(read))) == []


def test_trend_shows_the_error_of_each_night_s_forecast(tmp_path: Path) -> None:
    first = results(tmp_path / "one", seconds={"sft": 5.0, "dpo": 10.0, "orpo": 2.5})
    second = results(tmp_path / "two")
    (second / "forecast.json").unlink()
    page = trend_page(read_nights([first, second]))
    told = page.partition("## Forecast by date")[2].partition("\n## ")[0]
    (row,) = [line for line in told.splitlines() if line.startswith("| 2026")]
    assert row.replace("|", " ").split()[1:] == [
        "1.25",
        "1.00",
        "1.50",
        "1.00",
        "0.500",
        "2.00",
        "6",
        "of",
        "6",
    ]
    assert "No night has a forecast" in trend_page(read_nights([second]))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_a_damaged_forecast_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "forecast.json").write_bytes(content)
    assert read_forecast(tmp_path) is None


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_forecast_with_a_number_that_is_not_finite_is_damaged(tmp_path: Path, number: str) -> None:
    plan = read_plan(make_results(tmp_path, Run(seeds=1)))
    sound = json.dumps(forecast(plan).model_dump(mode="json", by_alias=True))
    (tmp_path / "forecast.json").write_text(sound)
    assert read_forecast(tmp_path) is not None
    (tmp_path / "forecast.json").write_text(re.sub(r"\d+\.\d+", number, sound))
    assert read_forecast(tmp_path) is None
