"""`summary.json`: its form, numbers recomputed independently from the items and records, failures, missing groups."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas
import pytest
from scipy import stats

from harness.errors import UserError
from harness.judgement import judge_results
from harness.plan import COMPARISON, Trial, read_plan
from harness.recommendation import verdict_lines
from harness.records import read_record, write_record
from harness.report.write import write_report
from harness.results import read_results
from harness.scores import score_tables
from harness.summary import summarise
from harness.summary_schema import SCHEMA_FILE, SUMMARY, json_schema
from harness.verdict import INCOMPLETE, Rule, Scores, judge
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import LARGEST_VALUE
from tests.harness.fixtures_results import LEVELS, NUM_STEPS, Run, make_results


def items_of(folder: Path, model: str, seed: int | None, metric: str) -> pandas.Series[float]:
    """The column of a metric, read with pandas and the plan alone."""
    trial = next(t for t in read_plan(folder).trials if (t.name, t.seed) == (model, seed))
    for stage_id in trial.evaluations:
        table = pandas.read_json(folder / stage_id / "items.jsonl", lines=True)
        if metric in table:
            return table.set_index("item")[metric]
    raise AssertionError(metric)


def test_the_committed_schema_is_the_models() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), "run python -m harness.summary_schema"


@pytest.mark.parametrize(
    "run",
    [
        Run(),
        Run(seeds=5),
        Run(seeds=1),
        Run(groups=("preference",), decision={"metric": "preference_accuracy"}),
        Run(failed={("orpo", 1): ("not_finite", "loss is nan")}),
        Run(failed={(name, seed): ("failed", "x") for name in ("orpo", "sft-dpo") for seed in range(3)}),
        Run(arms=["orpo"]),
        Run(changes={"controls": [], "price_per_hour": 2.5}),
        Run(changes={"base_per_seed": True}),
    ],
    ids=["3", "5", "1", "preference", "failed", "all failed", "one arm", "priced", "bases"],
)
def test_every_summary_follows_the_schema(tmp_path: Path, run: Run) -> None:
    folder = make_results(tmp_path, run)
    summarise(folder)
    jsonschema.validate(
        json.loads((folder / SUMMARY).read_text()),
        json.loads(SCHEMA_FILE.read_text()),
        cls=jsonschema.Draft202012Validator,
    )


def test_metrics_are_the_means_of_the_items_by_seed(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    summarise(folder)
    summary = json.loads((folder / SUMMARY).read_text())
    for model, place in (("orpo", "arms"), ("sft-dpo", "arms"), ("sft", "controls")):
        found = summary[place][model]["metrics"]["gold_score"]
        expected = [items_of(folder, model, seed, "gold_score").mean() for seed in range(3)]
        assert found["by_seed"] == pytest.approx(expected)
        assert found["mean"] == pytest.approx(sum(expected) / 3)
        assert found["low"] < found["mean"] < found["high"]
        assert (found["direction"], found["unit"], found["num_items"]) == ("higher", "score in [0, 1]", 60)
        assert found["seeds"] == [0, 1, 2]
    assert summary["arms"]["orpo"]["metrics"]["benchmark_toy_task"]["unit"] == "share"


def test_a_base_that_all_seeds_share_has_no_seeds_but_a_mean(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    base = summarise(folder).controls["base"]
    scores = items_of(folder, "base", None, "gold_score")
    assert base.metrics["gold_score"].by_seed == []
    assert base.metrics["gold_score"].mean == pytest.approx(scores.mean())
    assert base.cost.train_seconds == 0
    assert base.cost.peak_memory_bytes is None


def test_a_base_of_its_own_for_each_seed_has_its_seeds(tmp_path: Path) -> None:
    base = summarise(make_results(tmp_path, Run(changes={"base_per_seed": True}))).controls["base"]
    assert base.metrics["gold_score"].seeds == [0, 1, 2]
    assert base.cost.by_seed == []


def test_the_costs_are_sums_over_stages_maxima_of_peaks_and_means_over_seeds(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(changes={"price_per_hour": 3.6}))
    cost = summarise(folder).arms["sft-dpo"].cost
    train, total, peaks = [], [], []
    for trial in read_plan(folder).trials:
        if trial.name == "sft-dpo":
            costs = [read_record(folder / stage_id).cost for stage_id in trial.training]  # type: ignore[union-attr]
            train.append(sum(c.train_seconds for c in costs if c))
            total.append(sum(c.total_seconds for c in costs if c))
            peaks.append(max(c.peak_memory_bytes for c in costs if c))
    assert len(train) == 3
    assert [seed.train_seconds for seed in cost.by_seed] == pytest.approx(train)
    assert cost.train_seconds == pytest.approx(sum(train) / 3)
    assert cost.peak_memory_bytes == max(peaks)
    assert cost.money == pytest.approx(sum(total) / 3 / 1000)


def test_reference_log_probs_that_were_computed_once_are_on_the_bill_of_every_arm_that_reads_them(
    tmp_path: Path,
) -> None:
    def dpo(beta: float) -> dict[str, object]:
        return {"trainer": "dpo", "reference": "precomputed", "arguments": {"beta": beta}}

    arms = {
        "orpo": [{"trainer": "orpo"}],
        "sft-dpo": [{"trainer": "sft"}, dpo(0.1)],
        "sft-dpo-5": [{"trainer": "sft"}, dpo(0.5)],
    }
    levels = {"base": 0.5, "sft": 0.6, "orpo": 0.7, "sft-dpo": 0.7, "sft-dpo-5": 0.7}
    folder = make_results(tmp_path, Run(changes={"arms": arms}, levels=levels))
    plan = read_plan(folder)
    assert sum(stage.kind == "reference" for stage in plan.stages) == 3  # one for each SFT model
    summary = summarise(folder)
    for name in ("sft-dpo", "sft-dpo-5"):
        for trial, seed in zip(
            (trial for trial in plan.trials if trial.name == name),
            summary.arms[name].cost.by_seed,
            strict=True,
        ):
            parts = [*trial.training, *trial.references]
            costs = [json.loads((folder / part / "record.json").read_text())["cost"] for part in parts]
            assert len(costs) == 3
            assert seed.train_seconds == pytest.approx(sum(cost["train_seconds"] for cost in costs))
            assert seed.num_reference_tokens == 12_000 + NUM_STEPS * 16 * 120


def test_the_cost_ratio_is_the_geometric_mean_of_the_ratios_by_seed(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path))
    pairs = zip(summary.arms["orpo"].cost.by_seed, summary.arms["sft-dpo"].cost.by_seed, strict=True)
    ratios = [first.train_seconds / second.train_seconds for first, second in pairs]
    ratio = summary.verdict.cost_ratio
    assert ratio is not None
    assert ratio.ratio == pytest.approx(math.prod(ratios) ** (1 / 3))
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < ratio.ratio < ratio.high
    # No device memory on a CPU, and no price.
    assert [found.quantity for found in summary.cost_ratios] == [
        "train_seconds",
        "total_seconds",
        "peak_memory_bytes",
        "num_policy_tokens",
    ]
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert (ratio.low, ratio.high) == pytest.approx(
        (math.exp(logs.mean() - half), math.exp(logs.mean() + half))
    )


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_verdict_is_that_of_the_tables_of_items(tmp_path: Path, num_seeds: int) -> None:
    folder = make_results(tmp_path, Run(seeds=num_seeds))
    seeds = tuple(range(num_seeds))
    first, second = (
        Scores(arm, seeds, seeds, np.array([items_of(folder, arm, seed, "gold_score") for seed in seeds]))
        for arm in ("orpo", "sft-dpo")
    )
    expected, found = judge(first, second, Rule(margin=0.02)), summarise(folder).verdict
    assert (found.outcome, found.form, found.num_seeds, found.num_items) == (
        expected.outcome,
        "welch" if num_seeds == 3 else "paired",
        num_seeds,
        60,
    )
    assert (found.difference, found.low, found.p_value) == pytest.approx(
        (expected.difference, expected.low, expected.p_value)
    )


def test_where_lower_is_better_a_positive_difference_still_means_the_first_is_better(tmp_path: Path) -> None:
    levels = LEVELS | {"orpo": 0.9, "sft-dpo": 0.6}
    run = Run(levels=levels, decision={"metric": "chosen_nll", "margin": 0.01})
    summary = summarise(make_results(tmp_path, run))
    nll = {arm: model.metrics["chosen_nll"].mean for arm, model in summary.arms.items()}
    assert nll["orpo"] < nll["sft-dpo"]
    assert summary.verdict.outcome == "orpo"
    assert summary.verdict.difference == pytest.approx(nll["sft-dpo"] - nll["orpo"])


@pytest.mark.parametrize(
    ("levels", "decision", "outcome", "advice"),
    [
        ({"orpo": 0.9, "sft-dpo": 0.6}, {}, "orpo", "train orpo: better on gold_score, at 0."),
        ({"orpo": 0.6, "sft-dpo": 0.9}, {}, "sft-dpo", "train sft-dpo: better on gold_score, at 1."),
        ({}, {"margin": 0.3}, "equivalent", "train orpo: equivalent within 0.3 on gold_score, at 0."),
        ({}, {"margin": 0.001}, "undecided", "do not decide by these numbers"),
        ({}, {"margin": 0.3, "compare": ["sft-dpo", "orpo"]}, "equivalent", "train orpo: equivalent"),
    ],
)
def test_the_recommendation_follows_from_outcome_and_cost(
    tmp_path: Path, levels: dict[str, float], decision: dict[str, Any], outcome: str, advice: str
) -> None:
    run = Run(levels=LEVELS | levels, decision={"metric": "gold_score", "margin": 0.02} | decision)
    summary = summarise(make_results(tmp_path, run))
    assert summary.verdict.outcome == outcome
    assert summary.verdict.recommendation.startswith(advice)
    lines = verdict_lines(summary)
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_a_failed_seed_is_incomplete_listed_and_left_out(tmp_path: Path) -> None:
    run = Run(seeds=5, failed={("orpo", 1): ("out_of_memory", "no room in /home/ada/model.bin")})
    summary = summarise(make_results(tmp_path, run))
    assert summary.verdict.outcome == "incomplete"
    assert "orpo lacks seed 1" in (summary.verdict.reason or "")
    assert summary.arms["orpo"].metrics["gold_score"].seeds == [0, 2, 3, 4]
    assert len(summary.arms["orpo"].cost.by_seed) == 4
    statuses = [failure.status for failure in summary.failures]
    assert statuses == ["out_of_memory", "not_run", "not_run", "not_run"]
    assert summary.failures[0].message == "no room in model.bin"
    assert summary.failures[0].trials == ["orpo seed 1"]
    assert summary.doubts[0].startswith("1 stage failed, and 3 that need them were not run")


def test_a_run_that_was_stopped_before_an_arm_began_is_incomplete(tmp_path: Path) -> None:
    run = Run(unfinished=frozenset(("sft-dpo", seed) for seed in range(3)))
    verdict = summarise(make_results(tmp_path, run)).verdict
    assert (verdict.outcome, verdict.difference, verdict.cost_ratio) == ("incomplete", None, None)
    assert verdict.reason == "sft-dpo has no finished measurement of gold_score"


def test_one_seed_gives_a_difference_but_no_interval_and_no_verdict(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=1)))
    assert summary.verdict.outcome == "incomplete"
    assert summary.verdict.difference is not None
    assert summary.verdict.low is None
    assert summary.arms["orpo"].metrics["gold_score"].low is None
    assert "--seeds 5" in summary.verdict.recommendation


def test_a_model_below_sft_alone_is_a_reason_to_doubt(tmp_path: Path) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=5, num_items=200, levels=LEVELS | {"orpo": 0.6})))
    assert summary.doubts[0].startswith("orpo is worse than SFT alone on gold_score (orpo minus sft -0.")


def test_a_machine_that_was_shared_is_a_reason_to_doubt_the_costs_and_is_said_in_the_bill(
    tmp_path: Path,
) -> None:
    folder = make_results(tmp_path, Run(seeds=5, num_items=200))
    assert not any("the machine was shared" in doubt for doubt in summarise(folder).doubts)
    for place, dpo in enumerate(sorted(folder.glob("dpo-*"))[:2]):
        record = read_record(dpo)
        assert record is not None
        assert record.cost is not None
        load = {"contended": True, "other_processor_share": 0.31 + place / 10}
        write_record(dpo, record.model_copy(update={"cost": record.cost.model_copy(update=load)}))
    # 5 seeds of sft, dpo and orpo
    said = "the machine was shared while 2 of 15 training stages ran (others took up to 41 % of the processors' time)"
    assert f"{said}: the costs are unreliable" in summarise(folder).doubts
    page = write_report(folder, tmp_path / "reports").read_text()
    assert f"Unreliable: {said}; the table under Fairness names them." in page


def test_summarising_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    summarise(folder)
    first = (folder / SUMMARY).read_bytes()
    summarise(folder)
    assert (folder / SUMMARY).read_bytes() == first


def test_a_folder_that_is_no_results_folder_or_damaged_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no comparison\.json"):
        summarise(tmp_path)
    folder = make_results(tmp_path)
    stage = next(stage for stage in read_plan(folder).stages if stage.kind == "evaluate")
    (folder / stage.id / "items.jsonl").write_text('{"item": "a", "gold')
    with pytest.raises(UserError, match=r"line 1 is not JSON.*\. Delete the folder"):
        summarise(folder)
    (folder / stage.id / "record.json").write_text("{}")
    with pytest.raises(UserError, match=r"record\.json: is damaged"):
        summarise(folder)
    (folder / "comparison.json").write_text("{}")
    with pytest.raises(UserError, match="does not have the form of this version"):
        summarise(folder)


def test_an_arm_that_the_run_left_out_is_asked_for(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    content = json.loads((folder / COMPARISON).read_text())
    content["trials"] = [trial for trial in content["trials"] if trial["name"] != "sft-dpo"]
    needed = {stage for trial in content["trials"] for stage in Trial.model_validate(trial).stages()}
    content["stages"] = [stage for stage in content["stages"] if stage["id"] in needed]
    (folder / COMPARISON).write_text(json.dumps(content))

    assert summarise(folder).verdict.recommendation == (
        "do not decide yet; sft-dpo was left out: run the same command without --arm."
    )


def test_a_record_of_another_schema_is_not_called_damaged(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    path = next(folder.glob("sft-*/record.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))

    with pytest.raises(UserError, match="has a schema that this version does not know"):
        summarise(folder)


def rename_items(folder: Path, model: str, seed: int) -> None:
    """Give every item of one trial's evaluations an id that no other trial has."""
    trial = next(t for t in read_plan(folder).trials if (t.name, t.seed) == (model, seed))
    for stage_id in trial.evaluations:
        file = folder / stage_id / "items.jsonl"
        file.write_text(file.read_text().replace('"item": "', '"item": "other-'))


@pytest.mark.parametrize("controls", [["sft"], []])
def test_a_model_whose_seeds_share_no_item_is_reported_without_its_means(
    tmp_path: Path, controls: list[str]
) -> None:
    run = Run(
        seeds=5, groups=("preference", "generation", "benchmarks", "drift"), changes={"controls": controls}
    )
    folder = make_results(tmp_path, run)
    rename_items(folder, "orpo", 1)
    summary = summarise(folder)
    found = summary.arms["orpo"].metrics["gold_score"]
    assert (found.mean, found.low, found.high, found.by_seed, found.num_items) == (None, None, None, [], 0)
    page = write_report(folder, tmp_path / "reports").read_text()
    assert "no item that every seed was measured on" in page
    assert "nan" not in page


def test_a_verdict_on_seeds_that_share_no_item_is_incomplete_and_says_so(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    rename_items(folder, "orpo", 1)
    results = read_results(folder)
    tables = {name: score_tables(results, trials) for name, trials in results.models().items()}
    verdict = judge_results(results, tables)
    assert (verdict.outcome, verdict.num_items) == (INCOMPLETE, 0)
    assert verdict.reason == "the seeds of orpo have no item of gold_score in common"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("cost", {"train_seconds": -5}),
        ("cost", {"train_seconds": math.nan}),
        ("cost", {"total_seconds": 1e308}),
        ("cost", {"peak_memory_bytes": 10**400}),
        ("outcome", {"num_policy_tokens": -1}),
        ("machine", {"memory_bytes": 10**400}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_cost_that_nothing_can_have_is_a_damaged_record(
    tmp_path: Path, place: str, value: dict[str, Any]
) -> None:
    folder = make_results(tmp_path, Run())
    record = next(folder.glob("orpo-*/record.json"))
    content = json.loads(record.read_text())
    content[place] |= value
    record.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{record.parent.name}/record\.json: is damaged"):
        summarise(folder)


def test_a_training_that_took_no_time_has_no_cost_ratio(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(changes={"price_per_hour": 1.0}))
    for path in folder.glob("*/record.json"):
        content = json.loads(path.read_text())
        content["cost"] |= {"train_seconds": 0, "total_seconds": 0}
        path.write_text(json.dumps(content))
    summary = summarise(folder)
    assert {ratio.quantity for ratio in summary.cost_ratios}.isdisjoint(
        {"train_seconds", "total_seconds", "money"}
    )
    page = write_report(folder, tmp_path / "reports").read_text()
    assert "The cost ratio was not measured: no seed has a cost above 0 in both arms." in page


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_largest_score_that_is_taken_overflows_no_statistic(tmp_path: Path, seeds: int) -> None:
    folder = make_results(tmp_path, Run(seeds=seeds))
    trial = next(t for t in read_plan(folder).trials if (t.name, t.seed) == ("orpo", 1))
    stage_id = next(
        name for name in trial.evaluations if "gold_score" in (folder / name / "items.jsonl").read_text()
    )
    rows = [json.loads(line) for line in (folder / stage_id / "items.jsonl").read_text().splitlines()]
    for sign, row in zip((1, -1, 1), rows, strict=False):
        row["gold_score"] = sign * LARGEST_VALUE
    (folder / stage_id / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = read_record(folder / stage_id)
    assert record is not None
    assert isinstance(record.outcome, EvaluateOutcome)
    means = record.outcome.means | {"gold_score": math.fsum(row["gold_score"] for row in rows) / len(rows)}
    outcome = record.outcome.model_copy(update={"means": means})
    write_record(folder / stage_id, record.model_copy(update={"outcome": outcome}))
    verdict = summarise(folder).verdict
    assert verdict.low is not None
    assert verdict.high is not None
    assert -math.inf < verdict.low < 0 < verdict.high < math.inf
    write_report(folder, tmp_path / "reports")
