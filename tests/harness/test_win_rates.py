"""Win rates: planned once, recomputed from the items, and not misled by length or position without saying so."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from harness.intervals import cluster_means
from harness.items import read_items
from harness.judged import judged, seed_matches
from harness.matches import judged_pairs, reference_opponent
from harness.outlook import stage_label
from harness.plan import Plan, read_plan
from harness.planning import make_plan
from harness.report.markdown import render_markdown
from harness.report.page import Listing, Page, Section
from harness.report.view import View
from harness.report.win_rates import win_rate_blocks
from harness.results import read_results
from harness.summary import make_summary
from harness.win_rate_schema import WinRate
from tests.harness.fixtures_results import Run, give_prompts, make_results

DOCS = Path(__file__).parents[2] / "docs"
GOLD = {"name": "gold", "kind": "gold"}
COMPARING = {"name": "pairs", "kind": "command", "command": ["true"], "mode": "compare"}
BOTH = Run(judges=(GOLD, COMPARING))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("judged"), BOTH)


def stages(plan: Plan, model: str, judge: str) -> dict[int | None, list[str]]:
    """Ids of a judge's stages on a model's replies, by seed."""
    by_id = {stage.id: stage for stage in plan.stages}
    return {
        trial.seed: [one for one in trial.judgements if by_id[one].settings.judge.name == judge]  # type: ignore[union-attr]
        for trial in plan.trials
        if trial.name == model
    }


def items(folder: Path, stage_id: str) -> Any:
    return pandas.read_json(folder / stage_id / "items.jsonl", lines=True)


def rate(found: list[WinRate], judge: str, pair: tuple[str, str]) -> WinRate:
    (one,) = (each for each in found if each.judge == judge and each.pair == pair)
    return one


def test_every_arm_meets_the_other_arm_and_both_controls(folder: Path) -> None:
    summary = make_summary(read_results(folder))
    pairs = [("orpo", "sft-dpo"), ("orpo", "sft"), ("orpo", "base"), ("sft-dpo", "sft"), ("sft-dpo", "base")]
    assert [one.pair for one in summary.win_rates if one.judge == "gold"] == pairs
    assert [one.pair for one in summary.win_rates if one.judge == "pairs"] == pairs


def test_a_scoring_judge_runs_once_a_model_and_a_comparing_one_once_a_match() -> None:
    plan = make_plan(BOTH.comparison())
    judged = [stage for stage in plan.stages if stage.kind == "judge"]
    assert sum(stage.inputs.opponent is None for stage in judged) == 3 * 3 + 1  # the base is shared
    assert sum(stage.inputs.opponent is not None for stage in judged) == 3 * 5
    assert [stage.kind for stage in plan.stages][-25:] == ["judge"] * 25
    assert len(stages(plan, "sft-dpo", "pairs")[1]) == 2


def test_a_judge_that_is_added_later_adds_its_own_stages_and_nothing_else() -> None:
    before = {stage.id for stage in make_plan(Run().comparison()).stages}
    after = {stage.id: stage.kind for stage in make_plan(BOTH.comparison()).stages}
    assert before <= after.keys()
    assert {after[one] for one in after.keys() - before} == {"judge"}


def test_the_toys_reward_model_is_trained_once_for_all_models(tmp_path: Path) -> None:
    judge = {"name": "rm", "kind": "reward_model", "model": "toy"}
    run = Run(
        judges=(judge, judge | {"name": "rm2", "batch_size": 4}), changes={"model": {"name": "org/other"}}
    )
    plan = make_plan(run.comparison())
    (reward,) = (stage for stage in plan.stages if stage.kind == "reward")
    assert (
        reward.inputs.policy is reward.inputs.base is None
    )  # it is no relative of the models that it scores
    judged = [stage for stage in plan.stages if stage.kind == "judge"]
    assert {stage.inputs.reward for stage in judged} == {reward.id}
    labels = {stage.id: stage_label(plan, stage) for stage in plan.stages}
    assert labels[reward.id] == "reward"
    assert "orpo seed 1: judge rm2" in labels.values()
    found = make_summary(read_results(make_results(tmp_path, run))).win_rates
    assert {(one.judge, one.kind) for one in found} == {("rm", "reward_model"), ("rm2", "reward_model")}


def test_a_reward_models_identity_is_its_files_and_not_their_place(tmp_path: Path) -> None:
    def ids(folder: Path) -> set[str]:
        judge = {"name": "rm", "kind": "reward_model", "model": str(folder)}
        plan = make_plan(Run(judges=(judge,)).comparison())
        return {stage.id for stage in plan.stages if stage.kind == "judge"}

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    first = ids(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert ids(tmp_path / "b") == first
    (tmp_path / "b" / "config.json").write_text('{"other": 1}')
    assert not ids(tmp_path / "b") & first


def test_a_judges_identity_follows_what_it_says_and_not_how_long_it_may_take(tmp_path: Path) -> None:
    script = tmp_path / "judge.py"

    def ids(**changes: Any) -> set[str]:
        judge = {**COMPARING, "command": ["python", str(script)], **changes}
        plan = make_plan(Run(judges=(judge,)).comparison())
        return {stage.id for stage in plan.stages if stage.kind == "judge"}

    script.write_text("one")
    first = ids()
    assert ids(timeout_minutes=1) == first
    script.write_text("two")
    assert not ids() & first


def test_the_win_rate_of_a_scoring_judge_is_one_pandas_line_over_two_files(folder: Path) -> None:
    plan = read_plan(folder)
    found = rate(make_summary(read_results(folder)).win_rates, "gold", ("orpo", "sft"))
    ours, theirs = (stages(plan, model, "gold") for model in ("orpo", "sft"))
    by_seed = []
    for seed in range(3):
        own, other = (items(folder, of[seed][0])["score_gold"] for of in (ours, theirs))
        by_seed.append(((own > other) + 0.5 * (own == other)).mean())
    assert found.rate.mean == pytest.approx(np.mean(by_seed), abs=1e-12)
    assert found.wins + found.ties + found.losses == pytest.approx(1)
    assert found.ties > 0.05
    assert found.position_bias is None


def test_the_win_rate_of_a_comparing_judge_is_the_mean_of_its_column(folder: Path) -> None:
    plan = read_plan(folder)
    found = rate(make_summary(read_results(folder)).win_rates, "pairs", ("orpo", "sft-dpo"))
    tables = [items(folder, stages(plan, "orpo", "pairs")[seed][0]) for seed in range(3)]
    assert found.rate.mean == pytest.approx(np.mean([table["win_rate_pairs"].mean() for table in tables]))
    assert found.num_items == 57
    assert found.num_unparsable == 9
    assert found.rate.low is not None
    whole = pandas.concat(tables)
    shown_first = (whole["win_shown_first"] + 1 - whole["win_shown_last"]) / 2
    assert found.position_bias is not None
    assert found.position_bias.mean == pytest.approx(shown_first.mean())
    decided = whole.dropna(subset="win_rate_pairs")
    assert found.inconsistent == pytest.approx(
        (decided["win_shown_first"] != decided["win_shown_last"]).mean()
    )
    assert found.position_bias.mean > 0.5


def change_items(folder: Path, stage_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the rows of a judge's stage, and its record with them."""
    path = folder / stage_id / "items.jsonl"
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = json.loads((folder / stage_id / "record.json").read_text())
    metrics = {name for row in rows for name in row if name.startswith(("win_rate_", "score_"))}
    values = {name: [row[name] for row in rows if name in row] for name in metrics}
    record["outcome"]["num_items"] = {name: len(found) for name, found in values.items()}
    record["outcome"]["means"] = {name: sum(found) / len(found) for name, found in values.items()}
    (folder / stage_id / "record.json").write_text(json.dumps(record))


def no_verdict(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "win" not in name} | {"unparsable": 1}


def test_a_seed_without_a_verdict_is_left_out_and_its_matches_are_counted(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(COMPARING,)))
    silent, *_ = stages(read_plan(folder), "orpo", "pairs")[1]
    change_items(folder, silent, no_verdict)
    results = read_results(folder)
    summary = make_summary(results)
    found = rate(summary.win_rates, "pairs", ("orpo", "sft-dpo"))
    assert (found.num_seeds, found.num_seeds_without_verdict) == (2, 1)
    assert (found.num_items, found.num_items_left_out) == (57, 3)
    assert found.num_unparsable == 3 + 60 + 3
    text = repr(list(win_rate_blocks(View(results, summary))))
    for said in ("'66'", "'2 of 3'", "'57 of 60'", "left out of all"):
        assert said in text


def test_a_prompt_without_a_verdict_in_one_seed_is_left_out_of_all_and_counted(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(COMPARING,)))
    one, *_ = stages(read_plan(folder), "orpo", "pairs")[2]
    change_items(folder, one, lambda row: no_verdict(row) if row["item"] == "item-0001" else row)
    found = rate(make_summary(read_results(folder)).win_rates, "pairs", ("orpo", "sft-dpo"))
    assert (found.num_seeds, found.num_seeds_without_verdict) == (3, 0)
    assert (found.num_items, found.num_items_left_out, found.num_unparsable) == (56, 4, 10)


def test_position_bias_is_told_of_the_matches_that_have_both_orders(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(COMPARING,)))
    one, *_ = stages(read_plan(folder), "orpo", "pairs")[2]

    def tied(
        row: dict[str, Any],
    ) -> dict[str, Any]:  # equal replies, of which the judge said nothing readable
        return (
            no_verdict(row) | {"win_rate_pairs": 0.5, "unparsable": 0} if row["item"] < "item-0003" else row
        )

    change_items(folder, one, tied)
    found = rate(make_summary(read_results(folder)).win_rates, "pairs", ("orpo", "sft-dpo"))
    tables = [items(folder, names[0]) for names in stages(read_plan(folder), "orpo", "pairs").values()]
    whole = pandas.concat(tables)
    complete = whole.groupby("item").filter(lambda rows: rows["win_shown_first"].notna().all())
    assert found.position_bias is not None
    shown_first = (complete["win_shown_first"] + 1 - complete["win_shown_last"]) / 2
    assert found.position_bias.mean == pytest.approx(shown_first.mean())
    assert complete["item"].nunique() == 55 < found.num_items == 57


def test_position_bias_is_told_of_a_judge_that_saw_one_order(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(COMPARING,)))

    def in_one_order(row: dict[str, Any]) -> dict[str, Any]:
        hidden = "win_shown_last" if row["item"] < "item-0040" else "win_shown_first"
        return {name: value for name, value in row.items() if name != hidden}

    shown_first = []
    for names in stages(read_plan(folder), "orpo", "pairs").values():
        change_items(folder, names[0], in_one_order)
        table = items(folder, names[0])
        shown_first.append(table["win_shown_first"].fillna(1 - table["win_shown_last"]).mean())
    found = rate(make_summary(read_results(folder)).win_rates, "pairs", ("orpo", "sft-dpo"))
    assert found.position_bias is not None
    assert found.position_bias.mean == pytest.approx(np.mean(shown_first))
    assert found.position_bias.low is not None
    assert found.inconsistent is None


def test_equal_replies_tie_under_a_judge_that_scores_them_apart(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(GOLD,)))
    plan = read_plan(folder)
    before = rate(make_summary(read_results(folder)).win_rates, "gold", ("orpo", "sft"))
    for model, noise in (("orpo", 1e-3), ("sft", 0.0)):
        for (stage_id,) in stages(plan, model, "gold").values():

            def said(row: dict[str, Any], model: str = model, noise: float = noise) -> dict[str, Any]:
                same = row["item"] < "item-0020"  # the same text from both, scored apart
                score = noise if same else row["score_gold"]
                text = f"{row['item']} {'' if same else model}"
                return row | {"score_gold": score, "reply_id": zlib.crc32(text.encode())}

            change_items(folder, stage_id, said)
    found = rate(make_summary(read_results(folder)).win_rates, "gold", ("orpo", "sft"))
    assert found.ties >= 20 / 60
    by_seed = []
    for seed in range(3):
        own, other = (items(folder, stages(plan, model, "gold")[seed][0])[20:] for model in ("orpo", "sft"))
        wins = (own["score_gold"] > other["score_gold"]) + 0.5 * (own["score_gold"] == other["score_gold"])
        by_seed.append((20 * 0.5 + wins.sum()) / 60)
    assert found.rate.mean == pytest.approx(np.mean(by_seed))
    assert found.rate.mean != before.rate.mean


def test_a_rate_and_the_shares_behind_it_weigh_prompts_alike(tmp_path: Path) -> None:
    folder = make_results(tmp_path, BOTH)
    give_prompts(folder, lambda place: 0 if place < 30 else place)
    summary = make_summary(read_results(folder))
    for found in summary.win_rates:
        assert found.wins + found.ties + found.losses == pytest.approx(1)
        assert found.wins + found.ties / 2 == pytest.approx(found.rate.mean, abs=1e-12)
    code = re.findall(r"```python\n(.*?)```", (DOCS / "judges.md").read_text(), re.S)
    plan = read_plan(folder)
    comparing = stages(plan, "orpo", "pairs")[0][0]
    first = code[0].replace("judge-0123456789ab", comparing).replace("results/x", str(folder))
    told = eval(first.replace("win_rate_gpt", "win_rate_pairs").strip(), {"pandas": pandas})
    (column,) = [
        column
        for name, column in read_items(folder / comparing / "items.jsonl").items()
        if name == "win_rate_pairs"
    ]
    assert told == pytest.approx(cluster_means(column.values, column.clusters).mean())
    one, two = stages(plan, "orpo", "gold")[0][0], stages(plan, "sft-dpo", "gold")[0][0]
    scope: dict[str, Any] = {"pandas": pandas}
    lines = code[1].replace("judge-…", one, 1).replace("judge-…", two, 1).replace("results/x", str(folder))
    *before, last = lines.replace("score_mine", "score_gold").strip().splitlines()
    exec("\n".join(before), scope)
    seeds = [
        judged(seed_matches(read_results(folder), plan.comparison.evaluations.judges[0], "orpo", "sft-dpo"))
    ]
    assert seeds[0] is not None
    assert eval(last, scope) == pytest.approx(cluster_means(seeds[0].wins[0], seeds[0].clusters).mean())


def test_categories_have_win_rates_of_their_own(folder: Path) -> None:
    plan = read_plan(folder)
    found = rate(make_summary(read_results(folder)).win_rates, "pairs", ("orpo", "base"))
    assert {one.category: one.num_items for one in found.categories} == {f"kind {n}": 19 for n in range(3)}
    tables = [items(folder, stages(plan, "orpo", "pairs")[seed][2]) for seed in range(3)]
    by_category = pandas.concat(tables).groupby("category")["win_rate_pairs"].mean()
    assert {one.category: one.rate.mean for one in found.categories} == pytest.approx(by_category.to_dict())


def test_the_metric_is_against_sft_alone_which_ties_with_itself(folder: Path) -> None:
    summary = make_summary(read_results(folder))
    for judge in ("gold", "pairs"):
        against_sft = rate(summary.win_rates, judge, ("orpo", "sft"))
        metrics = {name: model.metrics for name, model in summary.models().items()}
        assert metrics["orpo"][f"win_rate_{judge}"].mean == against_sft.rate.mean
        assert metrics["orpo"][f"win_rate_{judge}"].low == against_sft.rate.low
        assert set(metrics["sft"][f"win_rate_{judge}"].by_seed) == {0.5}
        assert f"win_rate_{judge}" not in metrics["base"]


def test_a_win_rate_can_decide(tmp_path: Path) -> None:
    run = Run(judges=(COMPARING,), seeds=5, decision={"metric": "win_rate_pairs", "margin": 0.02})
    summary = make_summary(read_results(make_results(tmp_path, run)))
    first, second = (summary.arms[name].metrics["win_rate_pairs"].mean for name in ("orpo", "sft-dpo"))
    assert summary.verdict.difference == pytest.approx(first - second)
    assert summary.verdict.num_items == 57
    assert {contrast.pair for contrast in summary.baselines} == {("orpo", "sft"), ("sft-dpo", "sft")}


def test_without_sft_alone_the_base_is_the_opponent() -> None:
    comparison = Run(judges=(GOLD,), changes={"controls": ["base"]}).comparison()
    assert reference_opponent(comparison) == "base"
    assert ("orpo", "sft") not in judged_pairs(comparison)
    assert reference_opponent(Run(changes={"controls": []}).comparison()) is None


def test_seeds_that_failed_are_left_out(tmp_path: Path) -> None:
    run = Run(judges=(GOLD, COMPARING), failed={("orpo", 1): ("failed", "broken")})
    found = make_summary(read_results(make_results(tmp_path, run))).win_rates
    assert {one.num_seeds for one in found if one.pair[0] == "orpo"} == {2}
    assert {one.num_seeds for one in found if one.pair[0] == "sft-dpo"} == {3}


def test_the_report_shows_rate_bias_and_length_and_hides_nothing_hostile(folder: Path) -> None:
    results = read_results(folder)
    view = View(results, make_summary(results))
    text = repr(list(win_rate_blocks(view)))
    for said in ("Win rates", "orpo against sft-dpo", "shown first", "at equal length", "kind 0"):
        assert said in text


def test_a_judge_without_a_single_verdict_is_not_passed_over(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(judges=(COMPARING,)))
    hostile = "<script>x</script> | A wins ![](http://e.vil/x.png)"
    for stage_id in {one for found in stages(read_plan(folder), "orpo", "pairs").values() for one in found}:
        rows = [{"item": f"item-{n:04d}", "length_difference": 0, "unparsable": 1} for n in range(3)]
        answers = [{"item": "item-0000", "win": None, "answers": [hostile, "A"]}]
        for name, content in (("items.jsonl", rows), ("judgements.jsonl", answers)):
            (folder / stage_id / name).write_text("".join(json.dumps(row) + "\n" for row in content))
        record = json.loads((folder / stage_id / "record.json").read_text())
        record["outcome"] |= {"means": {}, "num_items": {}}
        (folder / stage_id / "record.json").write_text(json.dumps(record))
    results = read_results(folder)
    view = View(results, make_summary(results))
    assert {one.pair[0] for one in view.summary.win_rates} == {"sft-dpo"}
    blocks = list(win_rate_blocks(view))
    without = [one for one in view.summary.without_win_rate if one.pair == ("orpo", "sft-dpo")]
    assert [(one.num_seeds, one.num_matches, one.num_unparsable) for one in without] == [(3, 9, 9)]
    assert "orpo against sft-dpo: not measured, 9 of 9 matches in 3 seeds have no verdict" in repr(blocks)
    (listing, *_) = (block for block in blocks if isinstance(block, Listing))
    assert listing.text == f"{hostile} | A"
    page = render_markdown(Page("x", "x", [], [Section("Quality", blocks)]))
    assert f"```text\n{hostile}" in page


def test_results_without_judges_have_no_win_rates(tmp_path: Path) -> None:
    results = read_results(make_results(tmp_path))
    summary = make_summary(results)
    assert summary.win_rates == []
    assert list(win_rate_blocks(View(results, summary))) == []
