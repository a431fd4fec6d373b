"""What metrics are made of: parts of the gold score and layers of the weights, recomputed from the files, on the page."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from harness.report.markdown import render_markdown
from harness.report.page import Page
from harness.report.quality import lost_section, quality_section
from harness.report.view import View
from harness.results import Results, read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import Run, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(make_results(tmp_path_factory.mktemp("parts"), Run(groups=("generation", "drift"))))


def of_model(results: Results, model: str, group: str, file: str) -> pandas.DataFrame:
    stages = [one for trial in results.models()[model] for one in results.evaluations(trial, group)]
    return pandas.concat(pandas.read_json(results.folder / one / file, lines=True) for one in stages)


def test_each_part_of_the_gold_score_is_the_mean_of_its_column(results: Results) -> None:
    for name, model in make_summary(results).models().items():
        items = of_model(results, name, "generation", "items.jsonl")
        assert model.gold_parts == {"team": pytest.approx(items["gold_part_team"].mean())}


def test_each_layers_change_is_the_mean_over_seeds_and_the_base_has_none(results: Results) -> None:
    summary = make_summary(results)
    layers = of_model(results, "orpo", "drift", "weights.jsonl").groupby("layer")["relative"].mean()
    assert summary.arms["orpo"].layers == pytest.approx(layers.to_dict())
    assert list(summary.arms["orpo"].layers) == ["layer 0", "layer 1", "layer 2"]
    assert summary.controls["base"].layers == {}


def test_a_layer_that_moved_away_from_zeros_is_left_out(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(groups=("generation", "drift")))
    results = read_results(folder)
    [first, *_] = [one for trial in results.models()["orpo"] for one in results.evaluations(trial, "drift")]
    rows = [json.loads(line) for line in (folder / first / "weights.jsonl").read_text().splitlines()]
    rows[0]["relative"] = None
    (folder / first / "weights.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    layers = of_model(results, "orpo", "drift", "weights.jsonl").groupby("layer")["relative"].mean()
    assert make_summary(results).arms["orpo"].layers == pytest.approx(layers.to_dict())


def test_the_page_has_both_tables_and_neither_where_nothing_was_measured(
    results: Results, tmp_path: Path
) -> None:
    def text(found: Results) -> str:
        view = View(found, make_summary(found))
        page = render_markdown(Page("x", "x", [], [quality_section(view), lost_section(view)]))
        return " ".join(page.split())

    shown = text(results)
    assert "| `team` | 0.750 | 0.750 | 0.750 | 0.750 |" in shown
    assert "How far each layer has moved" in shown
    assert "| layer | sft | orpo | sft-dpo |" in shown
    without = text(read_results(make_results(tmp_path, Run(groups=("preference",)))))
    assert "by part" not in without
    assert "each layer" not in without
