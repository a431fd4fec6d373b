"""Exported tables: the numbers of the results, with the columns that the documents name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas
import pytest

from harness.cli import main
from harness.export import TABLES
from harness.summary import summarise
from tests.harness.fixtures_results import Run, give_prompts, make_results

DOCS = Path(__file__).parents[2] / "docs"


def read(form: str, folder: Path, name: str) -> pandas.DataFrame:
    if form == "parquet":
        return pandas.read_parquet(folder / f"{name}.parquet")
    if form == "csv":
        return pandas.read_csv(folder / f"{name}.csv")
    lines = (folder / f"{name}.jsonl").read_text().splitlines()  # pandas' reader of JSON rounds
    return pandas.DataFrame([json.loads(line) for line in lines])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    failed = {("orpo", 1): ("failed", "no \x1b[31mred\x1b[0m file /home/ada/x.bin\nsecond line")}
    return make_results(tmp_path_factory.mktemp("export"), Run(failed=failed))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["csv", "parquet", "json"])
def tables(
    request: pytest.FixtureRequest, results: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pandas.DataFrame]:
    """The four tables, read back."""
    folder = tmp_path_factory.mktemp("tables")
    assert main(["export", str(results), "--format", request.param, "--output", str(folder)]) == 0
    assert len(list(folder.iterdir())) == len(TABLES)
    return {name: read(request.param, folder, name) for name in TABLES}


def test_means_over_the_exported_items_are_the_summarys(
    results: Path, tables: dict[str, pandas.DataFrame]
) -> None:
    arms = summarise(results).arms
    items = tables["items"]
    for arm, about in arms.items():
        for name, metric in about.metrics.items():
            chosen = items[(items["model"] == arm) & (items["metric"] == name)]
            means = chosen.groupby("seed")["value"].mean()
            assert means.index.tolist() == metric.seeds
            assert means.to_numpy(dtype=float) == pytest.approx(metric.by_seed, rel=1e-12)
            scores = tables["scores"]
            told = scores[(scores["model"] == arm) & (scores["metric"] == name)]["mean"]
            assert told.to_numpy(dtype=float) == pytest.approx(metric.by_seed, rel=1e-12)


def test_trials_have_the_costs_of_the_summary(results: Path, tables: dict[str, pandas.DataFrame]) -> None:
    trials = tables["trials"]
    assert len(trials) == 1 + 3 * 3
    for cost in summarise(results).arms["sft-dpo"].cost.by_seed:
        (row,) = trials[(trials["model"] == "sft-dpo") & (trials["seed"] == cost.seed)].to_dict("records")
        for name, value in cost.model_dump().items():
            assert pandas.isna(row[name]) if value is None else row[name] == value
    assert trials[trials["model"] == "orpo"]["train_seconds"].isna().tolist() == [False, True, False]


def test_a_sweeps_points_are_exported_as_well(tmp_path: Path) -> None:
    grids = {
        arm: {"grid": {f"{at}.arguments.beta": [0.05, 0.1]}} for at, arm in enumerate(("orpo", "sft-dpo"))
    }
    run = Run(
        changes={"sweep": {"arms": grids, "metric": "gold_score", "seeds": 2}},
        chosen={"orpo": 1, "sft-dpo": 0},
    )
    folder = make_results(tmp_path, run)
    assert main(["export", str(folder), "--format", "csv", "--output", str(tmp_path / "tables")]) == 0
    trials, scores, items = (read("csv", tmp_path / "tables", name) for name in ("trials", "scores", "items"))
    names = [f"{arm}@{number}" for arm in ("orpo", "sft-dpo") for number in (0, 1)]
    points = trials[trials["role"] == "point"]
    assert list(dict.fromkeys(points["model"])) == names
    assert points["train_seconds"].notna().all()
    sweep = summarise(folder).sweep
    assert sweep is not None
    for name in names:
        arm, _, number = name.partition("@")
        by_seed = sweep.arms[arm].points[int(number)].by_seed
        chosen = scores[(scores["model"] == name) & (scores["metric"] == "gold_score")]
        assert chosen["mean"].tolist() == pytest.approx(by_seed, rel=1e-12)
        told = items[(items["model"] == name) & (items["metric"] == "gold_score")]
        assert told.groupby("seed")["value"].mean().tolist() == pytest.approx(by_seed, rel=1e-12)


def test_means_over_prompts_can_be_made_from_the_exported_items(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=2))
    give_prompts(folder, lambda place: 0 if place < 40 else place)
    assert main(["export", str(folder), "--format", "parquet", "--output", str(tmp_path / "tables")]) == 0
    items = read("parquet", tmp_path / "tables", "items")
    told = items[(items["model"] == "orpo") & (items["metric"] == "gold_score")]
    by_seed = told.groupby(["seed", "prompt"])["value"].mean().groupby("seed").mean()
    assert by_seed.tolist() == pytest.approx(summarise(folder).arms["orpo"].metrics["gold_score"].by_seed)


def test_stages_say_what_failed_in_one_harmless_line(tables: dict[str, pandas.DataFrame]) -> None:
    stages = tables["stages"]
    assert stages[stages["status"] == "failed"]["message"].tolist() == [
        "no ␛[31mred␛[0m file x.bin ⏎ second line"
    ]
    assert (stages["status"] == "not_run").sum() == 3
    shared = stages[stages["kind"] == "sft"]
    assert shared["num_trials"].tolist() == [2, 2, 2]


def test_every_column_is_documented_as_the_code_has_it() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (string|Int64|Float64) \| (.*?) \|$",
        (DOCS / "results.md").read_text(),
        re.M,
    )
    assert rows == [
        (table, name, column.dtype, column.meaning)
        for table, columns in TABLES.items()
        for name, column in columns.items()
    ]


def test_values_keep_every_bit(results: Path, tmp_path: Path) -> None:
    for form in ("csv", "json", "parquet"):
        main(["export", str(results), "--format", form, "--output", str(tmp_path)])
    columns = ["model", "seed", "metric", "item", "value"]
    first, *others = (read(form, tmp_path, "items")[columns] for form in ("parquet", "csv", "json"))
    for other in others:
        assert other["value"].tolist() == first["value"].tolist()
        assert other["item"].tolist() == first["item"].tolist()
