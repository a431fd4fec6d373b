"""Quality while models train: summed over an arm's stages, the price of a target, likelihood displacement."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.learning import moments_of
from harness.plan import Plan, read_plan
from harness.records import VALIDATION
from harness.report import write_report
from harness.results import read_results
from harness.summary import make_summary
from harness.summary_schema import Claim, Summary
from tests.harness.fixtures_results import Run, make_results

STEPS = (0, 6, 12)
# Accuracy at each look of each kind of stage: SFT brings it to .6, ORPO to .8, DPO from .6 to .8.
ACCURACY = {"sft": (0.4, 0.5, 0.6), "orpo": (0.4, 0.7, 0.8), "dpo": (0.6, 0.75, 0.8)}
TOKENS = {"sft": 12 * 16 * 60, "orpo": 12 * 16 * 120, "dpo": 12 * 16 * 120}
TARGET = {"target": {"metric": "preference_accuracy", "value": 0.7}}


def looked(
    parent: Path, run: Run, accuracy: dict[str, tuple[float, ...]] | None = None, slip: float = 0.0
) -> Path:
    """A results folder whose training stages looked at validation pairs; `slip` is the seed's part of each value."""
    folder = make_results(parent, run)
    plan = read_plan(folder)
    for stage in plan.stages:
        if stage.kind in TOKENS and (folder / stage.id / "record.json").is_file():
            seconds = json.loads((folder / stage.id / "record.json").read_text())["cost"]["train_seconds"]
            rows = list(
                _rows(stage.kind, (accuracy or ACCURACY)[stage.kind], seconds, slip * (stage.seed % 7))
            )
            (folder / stage.id / VALIDATION).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _rows(kind: str, accuracy: tuple[float, ...], seconds: float, slip: float) -> Any:
    for step, value in zip(STEPS, accuracy, strict=True):
        share = step / STEPS[-1]
        chosen = {"sft": 0.3, "orpo": 0.1, "dpo": -0.5}[kind] * share - 1 + slip * share
        for split in ("validation", "train"):
            yield {
                "step": step,
                "num_policy_tokens": round(TOKENS[kind] * share),
                "num_reference_tokens": round(TOKENS[kind] * share) if kind == "dpo" else 0,
                "train_seconds": seconds * share,
                "total_seconds": 1.5 + seconds * share,
                "split": split,
                "num_pairs": 40,
                "preference_accuracy": value,
                "preference_margin": value / 2 + slip * share,
                "chosen_nll": -chosen,
                "chosen_logprob_mean": chosen,
                "rejected_logprob_mean": chosen - value / 2,
                "chosen_logprob_sum": 20 * chosen,
                "rejected_logprob_sum": 20 * chosen - 10 * value,
            }


def summary_of(folder: Path) -> Summary:
    return make_summary(read_results(folder))


def train_seconds(folder: Path, plan: Plan, name: str, place: int) -> list[float]:
    """Of one stage of an arm, by seed."""
    stages = [trial.training[place] for trial in plan.trials if trial.name == name]
    records = [json.loads((folder / stage / "record.json").read_text()) for stage in stages]
    return [record["cost"]["train_seconds"] for record in records]


def test_what_an_arms_sft_stage_took_is_in_every_later_point(tmp_path: Path) -> None:
    folder = looked(tmp_path, Run(seeds=3))
    points = summary_of(folder).arms["sft-dpo"].learning
    assert [(point.stage, point.step) for point in points] == [
        (1, 0),
        (1, 6),
        (1, 12),
        (2, 0),
        (2, 6),
        (2, 12),
    ]
    assert [point.num_policy_tokens for point in points[2:]] == [
        TOKENS["sft"], TOKENS["sft"], TOKENS["sft"] + TOKENS["dpo"] / 2, TOKENS["sft"] + TOKENS["dpo"],
    ]  # fmt: skip
    plan = read_plan(folder)
    sft, dpo = (np.mean(train_seconds(folder, plan, "sft-dpo", place)) for place in (0, 1))
    assert [point.train_seconds for point in points[3:]] == pytest.approx([sft, sft + dpo / 2, sft + dpo])
    assert points[-1].validation["preference_accuracy"] == pytest.approx(0.8)
    assert points[-1].num_reference_tokens == TOKENS["dpo"]


def test_seeds_of_other_lengths_meet_at_the_same_share_of_their_steps(tmp_path: Path) -> None:
    """A budget of tokens gives each seed its own number of steps."""
    folder = looked(tmp_path, Run(seeds=2))
    second = (
        folder
        / [trial for trial in read_plan(folder).trials if trial.name == "orpo"][1].training[0]
        / VALIDATION
    )
    rows = [json.loads(line) for line in second.read_text().splitlines()]
    longer = [row | {"step": {0: 0, 6: 7, 12: 13}[row["step"]]} for row in rows]
    second.write_text("".join(json.dumps(row) + "\n" for row in longer))
    points = summary_of(folder).arms["orpo"].learning
    assert [(point.step, point.num_seeds) for point in points] == [(0, 2), (6, 2), (12, 2)]
    # One look fewer: only those at the same step are the same moment.
    second.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] != 6))
    assert [point.step for point in summary_of(folder).arms["orpo"].learning] == [0, 12]


def test_reference_log_probs_of_a_stage_of_their_own_are_paid_before_dpo(tmp_path: Path) -> None:
    arms = Run().comparison().model_dump()["arms"]
    arms["sft-dpo"][1]["reference"] = "precomputed"
    folder = looked(tmp_path, Run(seeds=1, changes={"arms": arms}))
    results = read_results(folder)
    trial = next(trial for trial in results.plan.trials if trial.name == "sft-dpo")
    looks = moments_of(results, trial)
    reference = results.records[trial.references[0]]
    sft = results.records[trial.training[0]]
    assert reference.cost is not None
    assert sft.cost is not None
    assert looks[3].train_seconds == pytest.approx(sft.cost.train_seconds + reference.cost.train_seconds)
    assert looks[3].num_reference_tokens == 12_000


def test_money_is_the_seconds_in_all_at_the_price_of_an_hour(tmp_path: Path) -> None:
    folder = looked(tmp_path, Run(seeds=2, changes={"price_per_hour": 7.2}))
    for point in summary_of(folder).arms["orpo"].learning:
        assert point.money == pytest.approx(point.total_seconds * 0.002)
    unpriced = summary_of(looked(tmp_path / "unpriced", Run(seeds=2)))
    assert {point.money for point in unpriced.arms["orpo"].learning} == {None}


def test_joules_of_earlier_stages_are_in_every_sum_and_none_are_made_up(tmp_path: Path) -> None:
    folder = looked(tmp_path, Run(seeds=1, changes=TARGET))
    plan = read_plan(folder)
    sft, dpo = next(trial for trial in plan.trials if trial.name == "sft-dpo").training
    for stage_id, joules in ((sft, 300.0), (dpo, 500.0)):
        record = json.loads((folder / stage_id / "record.json").read_text())
        record["cost"]["energy_joules"] = joules
        (folder / stage_id / "record.json").write_text(json.dumps(record))
        rows = [json.loads(line) for line in (folder / stage_id / VALIDATION).read_text().splitlines()]
        rows = [row | {"energy_joules": joules * row["step"] / STEPS[-1]} for row in rows]
        (folder / stage_id / VALIDATION).write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = summary_of(folder)
    assert [point.energy_joules for point in summary.arms["sft-dpo"].learning] == [0, 150, 300, 300, 550, 800]
    assert {point.energy_joules for point in summary.arms["orpo"].learning} == {None}
    assert summary.target is not None
    other, orpo = summary.target.arms["sft-dpo"].energy_joules, summary.target.arms["orpo"].energy_joules
    assert other is not None
    assert (other.mean, orpo) == (550, None)


def test_the_price_of_a_target_is_that_of_the_first_look_that_has_it(tmp_path: Path) -> None:
    folder = looked(tmp_path, Run(seeds=3, changes=TARGET))
    target = summary_of(folder).target
    assert target is not None
    plan = read_plan(folder)
    orpo = np.array(train_seconds(folder, plan, "orpo", 0)) / 2
    both = [np.array(train_seconds(folder, plan, "sft-dpo", place)) for place in (0, 1)]
    other = both[0] + both[1] / 2
    assert [one.train_seconds for one in target.arms["orpo"].by_seed] == pytest.approx(list(orpo))
    assert [(one.stage, one.step) for one in target.arms["sft-dpo"].by_seed] == [(2, 6)] * 3
    found = target.arms["sft-dpo"].train_seconds
    assert found is not None
    low, high = stats.t.interval(0.95, 2, other.mean(), stats.sem(other))
    assert (found.mean, found.low, found.high) == pytest.approx((other.mean(), low, high))
    assert target.ratio is not None
    assert target.ratio.mean == pytest.approx(stats.gmean(orpo / other))
    logs = np.log(orpo / other)
    half = stats.t.isf(0.025, 2) * stats.sem(logs)
    assert (target.ratio.low, target.ratio.high) == pytest.approx(
        (math.exp(logs.mean() - half), math.exp(logs.mean() + half))
    )


def test_a_target_that_is_not_reached_is_a_result(tmp_path: Path) -> None:
    accuracy = ACCURACY | {"orpo": (0.4, 0.5, 0.65)}
    target = summary_of(looked(tmp_path, Run(seeds=3, changes=TARGET), accuracy)).target
    assert target is not None
    orpo = target.arms["orpo"]
    assert (orpo.by_seed, orpo.not_reached, orpo.train_seconds) == ([], [0, 1, 2], None)
    assert orpo.best is not None
    assert orpo.best.mean == pytest.approx(0.65)
    assert target.ratio is None


def test_a_target_that_the_start_meets_has_no_price_whatever_getting_ready_took(tmp_path: Path) -> None:
    met = {"orpo": (0.9, 0.9, 0.9), "sft-dpo": (0.9, 0.9, 0.9), "sft": (0.9, 0.9, 0.9)}
    folder = looked(tmp_path, Run(seeds=3, changes=TARGET), ACCURACY | met)
    for path in folder.glob(f"*/{VALIDATION}"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row | {"train_seconds": row["train_seconds"] + 1} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = summary_of(folder)
    assert summary.target is not None
    assert {one.num_policy_tokens for one in summary.target.arms["orpo"].by_seed} == {0}
    assert summary.target.ratio is None
    page = write_report(folder, tmp_path / "reports").read_text().replace("\\", "")
    assert "orpo: met before its training in 3 of 3 seeds" in page
    assert "as long as" not in page.split("Target:")[1].split("\n#")[0]


def test_a_target_that_is_to_be_low_is_reached_from_above(tmp_path: Path) -> None:
    changes = {"target": {"metric": "chosen_nll", "value": 0.9}}
    target = summary_of(looked(tmp_path, Run(seeds=2, changes=changes))).target
    assert target is not None
    assert [one.value for one in target.arms["orpo"].by_seed] == [pytest.approx(0.9)] * 2
    assert [(one.stage, one.step) for one in target.arms["sft-dpo"].by_seed] == [(1, 6)] * 2


def test_a_seed_that_failed_neither_reached_the_target_nor_missed_it(tmp_path: Path) -> None:
    run = Run(seeds=3, changes=TARGET, failed={("sft-dpo", 1): ("killed", "gone")})
    target = summary_of(looked(tmp_path, run)).target
    assert target is not None
    arm = target.arms["sft-dpo"]
    assert [one.seed for one in arm.by_seed] == [0, 2]
    assert arm.not_reached == []


def claim_of(folder: Path) -> Claim:
    return next(
        claim
        for claim in summary_of(folder).claims
        if claim.name == "lands_in_one_pass" and "of 0.7 on" in claim.case
    )


@pytest.mark.parametrize(
    ("accuracy", "status"),
    [
        (ACCURACY, "holds"),
        (ACCURACY | {"orpo": (0.4, 0.5, 0.6)}, "does not hold"),
        (ACCURACY | {"dpo": (0.6, 0.6, 0.6)}, "holds"),
        (ACCURACY | {"sft": (0.4, 0.7, 0.7), "orpo": (0.4, 0.5, 0.8)}, "does not hold"),
        (ACCURACY | {"orpo": (0.4, 0.5, 0.6), "dpo": (0.6, 0.6, 0.6)}, "cannot tell"),
    ],
    ids=["earlier", "never", "alone", "later", "neither"],
)
def test_whether_orpo_lands_in_one_pass_can_go_by_the_target(
    tmp_path: Path, accuracy: dict[str, tuple[float, ...]], status: str
) -> None:
    claim = claim_of(looked(tmp_path, Run(seeds=3, changes=TARGET), accuracy))
    assert claim.status == status
    assert "reached it in" in claim.reason


def test_the_claim_reads_the_ratio_the_right_way_round(tmp_path: Path) -> None:
    decision = {"metric": "gold_score", "compare": ["sft-dpo", "orpo"]}
    folder = looked(tmp_path, Run(seeds=3, changes=TARGET, decision=decision))
    summary, claim = summary_of(folder), claim_of(folder)
    assert summary.target is not None
    assert summary.target.ratio is not None
    assert claim.value == pytest.approx(1 / summary.target.ratio.mean)
    assert claim.low is not None
    assert claim.high is not None
    assert claim.value is not None
    assert claim.low < claim.value < claim.high < 1
    assert claim.status == "holds"


def test_one_seed_is_no_proof_that_orpo_lands(tmp_path: Path) -> None:
    assert claim_of(looked(tmp_path, Run(seeds=1, changes=TARGET))).status == "cannot tell"


def test_likelihood_is_displaced_where_chosen_fell_and_the_margin_grew(tmp_path: Path) -> None:
    found = {
        (one.model, one.stage, one.split): one
        for one in summary_of(looked(tmp_path, Run(seeds=4), slip=0.001)).displacements
    }
    assert len(found) == 2 * 3
    assert found["sft-dpo", 2, "validation"].displaced is True
    assert found["sft-dpo", 2, "train"].displaced is True
    assert found["sft-dpo", 1, "validation"].displaced is False  # chosen rose
    assert found["orpo", 1, "validation"].displaced is False
    dpo = found["sft-dpo", 2, "validation"]
    assert dpo.chosen.mean == pytest.approx(-0.5, abs=0.01)
    assert dpo.rejected.mean == pytest.approx(-0.6, abs=0.01)
    assert dpo.chosen.low is not None
    assert dpo.chosen.high is not None
    assert dpo.chosen.low < dpo.chosen.mean < dpo.chosen.high < 0
    single = summary_of(looked(tmp_path / "single", Run(seeds=1))).displacements
    assert {one.displaced for one in single} == {None}


def test_a_comparison_from_before_looks_has_a_summary_without_them(tmp_path: Path) -> None:
    summary = summary_of(make_results(tmp_path, Run(seeds=2)))
    assert summary.arms["orpo"].learning == []
    assert (summary.displacements, summary.target) == ([], None)


def test_the_report_shows_curves_prices_and_likelihood(tmp_path: Path) -> None:
    changes = TARGET | {"price_per_hour": 2.0}
    accuracy = ACCURACY | {"dpo": (0.6, 0.6, 0.65)}
    folder = looked(tmp_path, Run(seeds=3, changes=changes), accuracy, slip=0.001)
    page = write_report(folder, tmp_path / "reports")
    text = page.read_text().replace("\\", "")
    for words in (
        "### Quality for its price",
        "orpo: reached in all 3 seeds after",
        "sft-dpo: not reached in any of 3 seeds (best 0.650",
        "### Likelihood of both replies",
        "| sft-dpo: 2. dpo |",
    ):
        assert words in text
    for stem in ("validation", "likelihood"):
        assert (page.parent / "made-up" / f"{stem}.svg").stat().st_size > 5000
    html = page.with_suffix(".html").read_text()
    assert "reached in all 3 seeds after" in html


def test_looks_at_test_pairs_have_a_line_and_rows_of_their_own(tmp_path: Path) -> None:
    folder = looked(tmp_path, Run(seeds=3, changes={"training": {"eval_test": True}}), slip=0.001)
    before = write_report(folder, tmp_path / "reports").read_text().replace("\\", "")
    for path in folder.glob(f"*/{VALIDATION}"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        tested = [row | {"split": "test", "num_pairs": 30} for row in rows if row["split"] == "validation"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows + tested))
    found = summary_of(folder).displacements
    by_split = {
        split: [(one.model, one.stage, one.chosen) for one in found if one.split == split]
        for split in ("validation", "test")
    }
    assert by_split["test"] == by_split["validation"] != []
    after = write_report(folder, tmp_path / "reports").read_text().replace("\\", "")
    for words in ("| 30 test ", "test pairs, by which nothing was chosen", "on test pairs (dotted)"):
        assert words in after
        assert words not in before
    assert "no look during training saw" not in after


def test_a_report_without_looks_says_so(tmp_path: Path) -> None:
    text = (
        write_report(make_results(tmp_path, Run(seeds=2)), tmp_path / "reports").read_text().replace("\\", "")
    )
    assert "no finished stage looked at validation pairs (`training.eval_every`)" in text


def test_the_report_says_which_weights_were_left(tmp_path: Path) -> None:
    shape = {"effective_batch": 16, "micro_batch": 8, "max_length": 128, "select": "best_validation"}
    folder = looked(tmp_path, Run(seeds=2, changes={"training": shape}))
    plan = read_plan(folder)
    chosen = folder / next(trial for trial in plan.trials if trial.name == "orpo").training[0] / "record.json"
    record = json.loads(chosen.read_text())
    record["outcome"]["selected_step"] = 6
    chosen.write_text(json.dumps(record))
    text = write_report(folder, tmp_path / "reports").read_text().replace("\\", "")
    assert "- orpo, 1. orpo: 6 of 12, 12 of 12 steps" in text
    assert "- sft-dpo, 2. dpo: 12 of 12, 12 of 12 steps" in text
