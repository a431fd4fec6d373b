"""Sweeps: points from the config, chosen on validation pairs, the best run on fresh seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.cli import main
from harness.config import Comparison
from harness.items import Column
from harness.load_config import load_comparison
from harness.outlook import look_ahead
from harness.plan import Plan, read_plan
from harness.plan_so_far import plan_from
from harness.planning import make_plan
from harness.records import Record
from harness.report import write_report
from harness.report.sweep import sweep_lines
from harness.results import read_results
from harness.summary import make_summary
from harness.summary_schema import PointSummary
from harness.sweep import choose, points_of, still_to_choose
from harness.sweep_summary import _near_the_best
from pipelines.stages import EvaluateSettings, TrainSettings
from tests.harness.configs import VALID, write
from tests.harness.fixtures_results import Run, give_prompts, make_results

BETAS = [0.05, 0.1, 0.5]
GRIDS = {"orpo": {"grid": {"0.arguments.beta": BETAS}}, "sft-dpo": {"grid": {"1.arguments.beta": BETAS}}}


SWEPT = Run(
    changes={"sweep": {"arms": GRIDS, "metric": "gold_score", "seeds": 2}}, chosen={"orpo": 1, "sft-dpo": 0}
)


def newcombe(*counts: tuple[int, int]) -> tuple[float, float]:
    """Newcombe 1998, method 10: the difference of two shares, from Wilson's bounds of each."""
    z = 1.959963984540054
    shares, bounds = [near / of for near, of in counts], []
    for (near, of), share in zip(counts, shares, strict=True):
        middle, half = near + z * z / 2, z * (near * (1 - share) + z * z / 4) ** 0.5
        bounds.append(((middle - half) / (of + z * z), (middle + half) / (of + z * z)))
    down = ((shares[0] - bounds[0][0]) ** 2 + (bounds[1][1] - shares[1]) ** 2) ** 0.5
    up = ((bounds[0][1] - shares[0]) ** 2 + (shares[1] - bounds[1][0]) ** 2) ** 0.5
    return shares[0] - shares[1] - down, shares[0] - shares[1] + up


def comparison(**sweep: Any) -> Comparison:
    content = {"arms": GRIDS, "metric": "gold_score", "seeds": 2} | sweep
    return Run(changes={"sweep": content}).comparison()


def of_kind(plan: Plan, kind: str) -> list[Any]:
    return [stage for stage in plan.stages if stage.kind == kind]


def test_a_grid_is_every_combination_and_changes_only_its_keys() -> None:
    grid = {"0.arguments.beta": [0.1, 0.2], "0.arguments.learning_rate": [1e-3, 1e-4, 1e-5]}
    points = points_of(comparison(arms={"orpo": {"grid": grid}}), "orpo")
    assert [tuple(point.changes.values()) for point in points] == [
        (beta, rate) for beta in (0.1, 0.2) for rate in (1e-3, 1e-4, 1e-5)
    ]
    assert points[4].recipe[0].arguments == {"beta": 0.2, "learning_rate": 1e-4}
    assert points[4].name == "orpo@4"


def test_random_points_lie_in_their_spans_and_are_the_same_each_time() -> None:
    keys = {
        "0.arguments.beta": {"low": 0.01, "high": 1},
        "0.arguments.weight_decay": {"low": 0, "high": 1, "scale": "linear"},
    }
    swept = comparison(arms={"orpo": {"random": {"num_points": 200, "keys": keys}}})
    points = points_of(swept, "orpo")
    betas = [point.changes["0.arguments.beta"] for point in points]
    assert points == points_of(swept, "orpo")
    assert len(betas) == 200
    assert all(0.01 <= beta <= 1 for beta in betas)
    # Even in the logarithm: half of the values lie below the geometric middle.
    assert 70 <= sum(beta < 0.1 for beta in betas) <= 130


def test_a_plan_has_the_points_first_and_fresh_seeds_only_of_the_chosen_ones() -> None:
    before = make_plan(comparison())
    assert {trial.role for trial in before.trials} == {"control", "point"}
    assert len(list(still_to_choose(before))) == 2
    after = make_plan(comparison(), chosen={"orpo": 2, "sft-dpo": 0})
    arms = [trial for trial in after.trials if trial.role == "arm"]
    assert len(arms) == 2 * 3
    assert list(still_to_choose(after)) == []
    stages = {stage.id: stage for stage in after.stages}
    orpo = [stages[trial.training[0]] for trial in arms if trial.name == "orpo"]
    assert {stage.settings.arguments["beta"] for stage in orpo} == {0.5}
    tried = {
        stage.seed
        for trial in after.trials
        if trial.role == "point"
        for stage in map(stages.get, trial.training)
    }
    assert tried.isdisjoint(stage.seed for stage in orpo)


def test_points_are_measured_on_validation_pairs_alone_and_arms_on_test_pairs() -> None:
    plan = make_plan(comparison(), chosen={"orpo": 0, "sft-dpo": 0})
    stages = {stage.id: stage.settings for stage in plan.stages}
    for trial in plan.trials:
        evaluations = [stages[stage_id] for stage_id in trial.evaluations]
        assert all(isinstance(one, EvaluateSettings) for one in evaluations)
        splits = {getattr(one.evaluation, "split", "test") for one in evaluations}
        assert splits == {"validation" if trial.role == "point" else "test"}
        if trial.role == "point":
            assert [one.evaluation.group for one in evaluations] == ["preference", "generation"]


def test_points_have_base_models_of_their_own_where_each_seed_has_one() -> None:
    content = {"arms": GRIDS, "metric": "gold_score", "seeds": 2}
    plan = make_plan(
        Run(changes={"sweep": content, "base_per_seed": True}).comparison(), chosen={"orpo": 0, "sft-dpo": 0}
    )
    bases: dict[bool, set[str]] = {True: set(), False: set()}
    stages = {stage.id: stage for stage in plan.stages}
    for trial in plan.trials:
        used = {base for stage_id in trial.training if (base := stages[stage_id].inputs.base)}
        bases[trial.role == "point"] |= used
    assert len(bases[True]) == 2
    assert bases[False]
    assert not bases[True] & bases[False]


def test_twelve_points_of_each_arm_over_three_seeds_train_three_sft_models() -> None:
    betas = [round(0.05 * number, 2) for number in range(1, 13)]
    arms = {"orpo": {"grid": {"0.arguments.beta": betas}}, "sft-dpo": {"grid": {"1.arguments.beta": betas}}}
    plan = make_plan(comparison(arms=arms, seeds=3))
    assert len(of_kind(plan, "sft")) == 3
    assert len(of_kind(plan, "dpo")) == len(of_kind(plan, "orpo")) == 36


Items = dict[str, dict[str, Column]]


def left_by(
    plan: Plan, scores: dict[str, list[float | dict[str, list[float]]]]
) -> tuple[dict[str, Record], Items]:
    """Records of all stages; the evaluation of point `NAME` with seed i has the i-th score, or its scores by prompt."""
    records = {stage.id: Record.model_construct(status="done", outcome=None) for stage in plan.stages}
    items: Items = {}
    for trial in plan.trials:
        if trial.name in scores:
            score = scores[trial.name][trial.seed or 0]
            by_prompt = score if isinstance(score, dict) else {"a": [score]}
            clusters = tuple(prompt for prompt, values in by_prompt.items() for _ in values)
            values = np.concatenate([np.array(values) for values in by_prompt.values()])
            column = Column(tuple(map(str, range(len(values)))), clusters, values)
            items[trial.evaluations[0]] = {"gold_score": column}
    return records, items


def test_the_best_mean_over_seeds_is_chosen_and_the_first_of_equals() -> None:
    plan = make_plan(comparison())
    scores = {"orpo@0": [0.5, 0.7], "orpo@1": [0.8, 0.2], "orpo@2": [0.7, 0.5]}
    scores |= {f"sft-dpo@{number}": [0.1 * number] * 2 for number in range(3)}
    assert choose(plan, *left_by(plan, scores)) == {"orpo": 0, "sft-dpo": 2}


def test_a_prompt_with_many_items_counts_once_in_the_choice() -> None:
    plan = make_plan(comparison())
    scores = {"orpo@0": [{"a": [0.9] * 8, "b": [0.1]}] * 2, "orpo@1": [0.6] * 2, "orpo@2": [0.2] * 2}
    scores |= {f"sft-dpo@{number}": [0.1 * number] * 2 for number in range(3)}
    assert choose(plan, *left_by(plan, scores))["orpo"] == 1  # .81 over items, .5 over prompts


def test_a_point_that_failed_is_not_chosen_and_one_that_has_not_ended_keeps_its_arm_open() -> None:
    plan = make_plan(comparison())
    scores = {f"{arm}@{number}": [0.1 * number] * 2 for arm in GRIDS for number in range(3)}
    records, items = left_by(plan, scores)
    last = next(trial for trial in plan.trials if trial.name == "sft-dpo@0" and trial.seed == 1)
    del records[last.evaluations[0]]
    assert choose(plan, records, items) == {"orpo": 2}
    best = [trial for trial in plan.trials if trial.name == "orpo@2"]
    records[best[0].training[0]] = Record.model_construct(status="not_finite", outcome=None)
    del records[best[0].evaluations[0]], items[best[0].evaluations[0]]
    assert choose(plan, records, items) == {"orpo": 1}


def test_points_are_chosen_again_from_the_files_once_a_damaged_one_is_whole(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SWEPT)
    chosen = plan_from(SWEPT.comparison(), folder).chosen
    sweep = make_summary(read_results(folder)).sweep
    best = {arm: max(range(3), key=lambda at: found.points[at].mean) for arm, found in sweep.arms.items()}
    assert chosen == best
    point = next(trial for trial in read_plan(folder).trials if trial.name == "orpo@0")
    items = folder / point.evaluations[0] / "items.jsonl"
    whole = items.read_bytes()
    items.write_bytes(whole[: len(whole) // 2])
    assert plan_from(SWEPT.comparison(), folder).chosen == {"sft-dpo": best["sft-dpo"]}
    items.write_bytes(whole)
    assert plan_from(SWEPT.comparison(), folder).chosen == best


def test_the_summary_shows_every_point_and_how_many_are_near_the_best(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SWEPT)
    sweep = make_summary(read_results(folder)).sweep
    assert sweep is not None
    assert [point.chosen for point in sweep.arms["orpo"].points] == [False, True, False]
    assert list(sweep.arms) == ["orpo", "sft-dpo"]
    for arm in sweep.arms.values():
        assert [len(point.by_seed) for point in arm.points] == [2, 2, 2]
        means = [sum(point.by_seed) / 2 for point in arm.points]
        assert [point.mean for point in arm.points] == pytest.approx(means)
        assert arm.num_within_margin == sum(max(means) - mean <= 0.02 for mean in means)


def test_points_are_near_the_best_only_on_the_metric_that_the_margin_is_declared_for(tmp_path: Path) -> None:
    run = replace(SWEPT, decision={"metric": "preference_accuracy", "margin": 0.02})
    sweep = make_summary(read_results(make_results(tmp_path, run))).sweep
    assert sweep is not None
    assert {arm.num_within_margin for arm in sweep.arms.values()} == {None}


def test_the_summary_averages_a_points_items_from_one_prompt_first(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SWEPT)
    prompts = give_prompts(folder, lambda place: max(place, 9))  # the first ten items are one prompt's
    sweep = make_summary(read_results(folder)).sweep
    assert sweep is not None
    assert sweep.num_items == 51
    trials = [trial for trial in read_plan(folder).trials if trial.name == "orpo@1"]
    by_seed = []
    for trial in trials:
        lines = (folder / trial.evaluations[1] / "items.jsonl").read_text().splitlines()
        scores = [json.loads(line)["gold_score"] for line in lines]
        by_seed.append((sum(scores[:10]) / 10 + sum(scores[10:])) / 51)
    point = sweep.arms["orpo"].points[1]
    assert point.by_seed == pytest.approx(by_seed, abs=1e-12)
    assert point.mean == pytest.approx(sum(by_seed) / 2, abs=1e-12)
    assert len(set(prompts)) == 51


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an arm that is not there": ({"arms": {"orpa": {"points": [{"0.arguments.beta": 1}]}}}, ["sweep.arms.orpa", "Did you mean orpo?"]),
    "no points": ({"arms": {"orpo": {}}}, ["sweep.arms.orpo must have one of grid, points and random, got none"]),
    "two ways": (
        {"arms": {"orpo": {"grid": {"0.arguments.beta": [1]}, "points": [{"0.arguments.beta": 1}]}}},
        ["sweep.arms.orpo must have one of", "grid and points"],
    ),
    "no value": (
        {"arms": {"orpo": {"grid": {"0.arguments.learning_rate": [1e-3, 1e-4], "0.arguments.beta": []}}}},
        ["sweep.arms.orpo.grid.0.arguments.beta must have at least 1 value, got an empty list"],
    ),
    "a stage that is not there": ({"arms": {"orpo": {"grid": {"3.arguments.beta": [1, 2]}}}}, ["sweep.arms.orpo", "0.arguments.beta"]),
    "a key that is not there": ({"arms": {"orpo": {"grid": {"0.argument.beta": [1, 2]}}}}, ["sweep.arms.orpo", "argument"]),
    "a value that cannot be": (
        {"arms": {"orpo": {"grid": {"0.arguments.beta": [0.1, -1]}}}}, ["sweep.arms.orpo: 0.arguments.beta must be more than 0, got -1", "point 1"],
    ),
    "a point twice, once by the default": (
        {"arms": {"orpo": {"points": [{"0.arguments.weight_decay": 0.0}, {"0.arguments.beta": 0.1}]}}},
        ["point 1", "same as one before"],
    ),
    "a point twice": ({"arms": {"orpo": {"grid": {"0.arguments.beta": [0.1, 0.1]}}}}, ["point 1", "same as one before"]),
    "a difference that is not declared": (
        {"arms": {"orpo": {"grid": {"0.arguments.weight_decay": [0.0, 0.1]}}}},
        ["allow_difference.weight_decay must be given", "sweep.arms.orpo", "at point 1 weight_decay is 0.1 in orpo (orpo), 0.0 in"],
    ),
    "unequal effort": ({"arms": {"orpo": {"grid": {"0.arguments.beta": [0.1, 0.2]}}}}, ["orpo has 2, sft-dpo has 1", "unequal_effort"]),
    "a metric without validation": (
        {"arms": GRIDS, "metric": "benchmark_toy"}, ["sweep.metric must be one that preference or generation measures", "benchmark_toy"],
    ),
    "a span upside down": (
        {"arms": {"orpo": {"random": {"num_points": 3, "keys": {"0.arguments.beta": {"low": 1, "high": 0.1}}}}}}, ["high must be more than low"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_a_sweep_is_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, pieces = MISTAKES[case]
    path = write(tmp_path, VALID + yaml.safe_dump({"sweep": sweep}))
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert [piece for piece in pieces if piece not in shown] == [], shown


@pytest.mark.parametrize("chooses", ["sweep", "select"])
def test_what_is_chosen_on_validation_pairs_is_not_reported_on_them(
    chooses: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = VALID.replace("{judges: [gold]}", "{judges: [gold], split: validation}")
    more = {"sweep": {"arms": GRIDS}} if chooses == "sweep" else {"training": {"select": "best_validation"}}
    content = yaml.safe_load(text)
    for key, value in more.items():
        content[key] = content.get(key, {}) | value
    path = write(tmp_path, yaml.safe_dump(content))
    assert main(["check", str(path)]) == 2
    assert "evaluations.generation.split must not be validation with" in capsys.readouterr().err


def test_validation_pairs_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = VALID.replace("num_pairs: 100", "num_pairs: 100, validation_share: 0")
    path = write(tmp_path, text + yaml.safe_dump({"sweep": {"arms": GRIDS}}))
    assert main(["check", str(path)]) == 2
    assert "data.validation_share must be more than 0" in capsys.readouterr().err


def test_unequal_effort_can_be_declared(tmp_path: Path) -> None:
    sweep = {"arms": {"orpo": {"grid": {"0.arguments.beta": [0.1, 0.2]}}}, "unequal_effort": "DPO is tuned"}
    path = write(tmp_path, VALID + yaml.safe_dump({"sweep": sweep}))
    assert load_comparison(path).sweep is not None


def test_plan_says_what_is_not_yet_known(tmp_path: Path) -> None:
    plan = make_plan(comparison())
    outlook = look_ahead(plan, tmp_path / "none", not_yet_known=list(still_to_choose(plan)))
    assert outlook.not_yet_known[0].startswith("orpo on 3 fresh seeds, at the point of 3 that gold_score")
    assert all(isinstance(stage.settings, TrainSettings) for stage in of_kind(plan, "orpo"))


def test_the_report_shows_every_point_with_its_curve(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SWEPT)
    page = write_report(folder, tmp_path / "reports")
    text = page.read_text()
    section = text[text.index("## Sweep") :].partition("\n## ")[0]
    assert section.count("arguments.beta = ") == 6
    assert "Seed 0 of a point and seed 0 of the report are not one seed" in section
    assert section.count("| yes") == 2
    assert section.count(" MiB |") == 6
    assert (tmp_path / "reports/made-up/sweep-cost.svg").is_file()
    points = [point for arm in make_summary(read_results(folder)).sweep.arms.values() for point in arm.points]
    assert all(point.train_seconds and point.peak_memory_bytes for point in points)
    assert (tmp_path / "reports/made-up/sweep.svg").is_file()
    assert (tmp_path / "reports/made-up/sweep-sft-signal.svg").is_file()
    assert {point.sft_signal.mean for point in points} != {point.mean for point in points}
    assert "how well" not in text


def test_points_that_differ_in_one_key_are_joined_and_those_without_a_partner_are_left_out(
    tmp_path: Path,
) -> None:
    beta, rate = "0.arguments.beta", "0.arguments.learning_rate"
    cross = [{beta: 0.05}, {beta: 0.5}, {beta: 0.1}, {rate: 1e-3}, {rate: 4e-3}, {beta: 2.0, rate: 8e-3}]
    arms = {"orpo": {"points": cross}, "sft-dpo": GRIDS["sft-dpo"]}
    changes = {
        "arms": {
            "orpo": [{"trainer": "orpo", "arguments": {"beta": 0.1, "learning_rate": 2e-3}}],
            "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}],
        },
        "sweep": {"arms": arms, "metric": "gold_score", "seeds": 2, "unequal_effort": "a test of the curves"},
    }
    results = read_results(make_results(tmp_path, Run(changes=changes, chosen={"orpo": 1, "sft-dpo": 0})))
    points = make_summary(results).sweep.arms["orpo"].points
    names = {beta: "beta", rate: "learning_rate"}
    (betas,), (rates,) = (sweep_lines(key, points, names) for key in (beta, rate))
    assert (betas.label, betas.x, betas.chosen) == (
        "learning_rate 0.002",
        [0.05, 0.1, 0.5],
        [False, False, True],
    )
    assert (rates.label, rates.x) == ("beta 0.1", [1e-3, 2e-3, 4e-3])
    assert betas.y == [points[0].mean, points[2].mean, points[1].mean]
    claims = [claim.case for claim in make_summary(results).claims if claim.name == "useful_beta_range"]
    assert (
        claims[0] == "orpo, sweep, learning_rate 0.002: beta 0.5 against 0.1 on gold_score, validation items"
    )


@pytest.mark.parametrize(
    "without",
    [{"groups": ("generation",)}, {"changes": {"sweep": SWEPT.changes["sweep"] | {"metric": "chosen_nll"}}}],
)
def test_the_sft_signal_is_not_drawn_where_nothing_measures_it_or_it_is_what_chooses(
    tmp_path: Path, without: dict[str, Any]
) -> None:
    folder = make_results(tmp_path, replace(SWEPT, **without))
    points = [point for arm in make_summary(read_results(folder)).sweep.arms.values() for point in arm.points]
    assert all(point.sft_signal is None for point in points)
    assert "The SFT signal" not in write_report(folder, tmp_path / "reports").read_text()


def test_random_points_are_marks_that_no_line_joins(tmp_path: Path) -> None:
    span = {"low": 0.01, "high": 1}
    keys = {"0.arguments.beta": span, "0.arguments.weight_decay": span}
    arms = {"orpo": {"random": {"num_points": 4, "keys": keys}}, "sft-dpo": GRIDS["sft-dpo"]}
    sweep = {"arms": arms, "metric": "gold_score", "seeds": 2, "unequal_effort": "a test of the curves"}
    run = Run(changes={"sweep": sweep}, chosen={"orpo": 1, "sft-dpo": 0})
    points = make_summary(read_results(make_results(tmp_path, run))).sweep.arms["orpo"].points
    (marks,) = sweep_lines("0.arguments.beta", points, dict.fromkeys(keys, ""))
    assert not marks.joined
    assert marks.x == sorted(point.changes["0.arguments.beta"] for point in points)


def test_the_first_picture_has_the_points_that_were_tried_where_they_have_its_metric(tmp_path: Path) -> None:
    def caption(folder: Path, changes: dict[str, Any]) -> str:
        run = Run(changes={"sweep": SWEPT.changes["sweep"] | changes}, chosen=SWEPT.chosen)
        page = write_report(make_results(folder, run), folder / "reports").read_text()
        return page[page.index("## Quality against cost") : page.index("## The verdict")]

    assert "every point of the sweep, on" in caption(tmp_path / "same", {})
    assert "every point of the sweep" not in caption(tmp_path / "other", {"metric": "preference_accuracy"})


def test_a_comparison_that_was_stopped_before_a_choice_still_has_a_report(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(changes=SWEPT.changes))
    summary = make_summary(read_results(folder))
    assert summary.verdict.outcome == "incomplete"
    assert "## Sweep" in write_report(folder, tmp_path / "reports").read_text()


def test_the_claims_on_tuning_and_on_beta_are_judged_by_a_sweep(tmp_path: Path) -> None:
    summary = make_summary(read_results(make_results(tmp_path, SWEPT)))
    claims = {claim.name: claim for claim in summary.claims}
    footguns = claims["fewer_footguns"]
    shares = [arm.num_within_margin / len(arm.points) for arm in summary.sweep.arms.values()]
    assert footguns.value == pytest.approx(shares[0] - shares[1])
    near = [(arm.num_within_margin, len(arm.points)) for arm in summary.sweep.arms.values()]
    assert (footguns.low, footguns.high) == pytest.approx(newcombe(*near), abs=1e-9)
    assert footguns.status == "cannot tell"  # three points against three can show nothing
    beta, signal = (claim for claim in summary.claims if claim.name == "useful_beta_range")
    assert beta.case == "orpo, sweep: beta 0.5 against 0.1 on gold_score, validation items"
    assert signal.case == "orpo, sweep: beta 0.5 against 0.1 on chosen_nll, validation items"
    points = summary.sweep.arms["orpo"].points
    signals = [point.sft_signal.mean for point in points]
    assert signal.value == pytest.approx(signals[1] - signals[2], abs=1e-9)  # turned: less is better
    assert beta.value == pytest.approx(points[2].mean - points[1].mean, abs=1e-9)


@pytest.mark.parametrize("best", [0.72, 0.70, 0.90, 0.62])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_point_at_the_margin_counts_whatever_its_last_bit(best: float, sign: int) -> None:
    means = [best, best - sign * 0.02, best - sign * 0.0201]
    points = [PointSummary.model_construct(mean=mean) for mean in means]
    assert _near_the_best(points, 0.02, "higher" if sign > 0 else "lower") == 2
