"""Published claims: the status follows from intervals, memory from a device's own alone, and each row names its evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.claims import claims
from harness.intervals import paired
from harness.results import read_results
from harness.scores import score_tables, tables_of_models
from harness.summary import make_summary, summarise
from harness.summary_schema import Claim
from tests.harness.fixtures_results import LEVELS, Run, make_results

GIB = 2**30
ARMS = ("orpo", "sft-dpo")
NAMES = [
    "half_the_memory",
    "fewer_footguns",
    "no_regression_panic",
    "lands_in_one_pass",
    "useful_beta_range",
    "underperforms_somewhere",
    "same_dataset_straight_in",
]


def claims_of(folder: Path, name: str) -> list[Claim]:
    return [claim for claim in summarise(folder).claims if claim.name == name]


def give_device_memory(folder: Path, **gib_by_kind: float) -> None:
    """As if the stages had run on a device: its own peak, a little different in each stage."""
    for place, path in enumerate(sorted(folder.glob("*/record.json"))):
        record = json.loads(path.read_text())
        kind = path.parent.name.split("-")[0]
        if kind in gib_by_kind:
            peak = int(gib_by_kind[kind] * GIB) + place
            record["cost"] |= {"peak_device_memory_bytes": peak}
            path.write_text(json.dumps(record))


def test_every_claim_has_a_row_and_only_measured_ones_a_number(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    found = summarise(folder).claims
    assert list(dict.fromkeys(claim.name for claim in found)) == NAMES
    for claim in found:
        assert (claim.status == "not measured") == (claim.value is None)
        assert (claim.status == "not measured") == (claim.evidence == [])
        assert claim.status != "not measured" or claim.measured_by
        assert all((folder / stage_id / "record.json").is_file() for stage_id in claim.evidence)


def test_resident_memory_is_never_taken_for_vram(tmp_path: Path) -> None:
    (claim,) = claims_of(make_results(tmp_path, Run(seeds=5)), "half_the_memory")
    assert (claim.status, claim.value) == ("not measured", None)
    assert claim.measured_by == "this config on a CUDA device (device: cuda)"
    assert claim.case == "orpo (trl) against sft-dpo (copy)"


@pytest.mark.parametrize(
    ("orpo", "dpo", "status"),
    [(10, 20, "holds"), (10.9, 20, "holds"), (11.2, 20, "does not hold"), (20, 16, "does not hold")],
)
def test_half_the_memory_goes_by_the_devices_own_peak(
    tmp_path: Path, orpo: float, dpo: float, status: str
) -> None:
    folder = make_results(tmp_path, Run(seeds=3))
    give_device_memory(folder, orpo=orpo, sft=orpo, dpo=dpo)
    (claim,) = claims_of(folder, "half_the_memory")
    assert claim.status == status
    assert claim.value == pytest.approx(orpo / max(orpo, dpo), rel=1e-3)
    assert "device's own" in claim.quantity


def test_a_single_seed_cannot_tell(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=1))
    give_device_memory(folder, orpo=10, sft=10, dpo=20)
    statuses = {claim.name: claim.status for claim in summarise(folder).claims}
    assert statuses["half_the_memory"] == "cannot tell"
    assert statuses["lands_in_one_pass"] == "cannot tell"


@pytest.mark.parametrize(("dpo", "status"), [(0.5, "holds"), (0.69, "cannot tell"), (0.9, "does not hold")])
def test_a_regression_after_dpo_is_looked_for_on_capability_and_nll(
    tmp_path: Path, dpo: float, status: str
) -> None:
    folder = make_results(tmp_path, Run(seeds=5, levels=LEVELS | {"sft-dpo": dpo}))
    rows = claims_of(folder, "no_regression_panic")
    cases = [(row.case.split()[0], row.case.split()[-1]) for row in rows]
    assert cases == [
        (arm, key) for arm in ("sft-dpo", "orpo") for key in ("chosen_nll", "benchmark_toy_task")
    ]
    assert {row.status for row in rows[:2]} == {status}
    says = {
        "holds": "DPO lost, so there is something to fear",
        "does not hold": "DPO gained, so there is nothing to fear",
    }
    assert rows[0].finding == says.get(status, "DPO was not detected to lose or gain")


@pytest.mark.parametrize(
    ("orpo", "status", "finding"), [(0.5, "does not hold", "ORPO lost"), (0.9, "holds", "ORPO gained")]
)
def test_what_orpo_loses_against_sft_alone_speaks_against_the_claim(
    tmp_path: Path, orpo: float, status: str, finding: str
) -> None:
    folder = make_results(tmp_path, Run(seeds=5, levels=LEVELS | {"orpo": orpo}))
    rows = [row for row in claims_of(folder, "no_regression_panic") if row.case.startswith("orpo ")]
    assert {row.status for row in rows} == {status}
    assert all((row.finding or "").startswith(finding) for row in rows)


@pytest.mark.parametrize(
    ("orpo", "margin", "status"),
    [
        (0.85, 0.02, "holds"),
        (0.755, 0.1, "holds"),
        (0.72, 0.1, "holds"),  # detected to be worse, by less than the margin
        (0.6, 0.02, "does not hold"),
        (0.75, 0.0001, "cannot tell"),
    ],
)
def test_it_lands_in_one_pass_where_the_score_is_reached_in_less_time(
    tmp_path: Path, orpo: float, margin: float, status: str
) -> None:
    run = Run(seeds=5, levels=LEVELS | {"orpo": orpo}, decision={"metric": "gold_score", "margin": margin})
    (claim,) = claims_of(make_results(tmp_path, run), "lands_in_one_pass")
    assert claim.status == status


def beta_run(levels: dict[str, float], *, margin: float = 0.001, **arguments: Any) -> Run:
    arms = {
        f"orpo-{beta}": [{"trainer": "orpo", "arguments": {"beta": beta} | (arguments if beta > 1 else {})}]
        for beta in (0.05, 0.1, 2.0)
    }
    sft_dpo = [{"trainer": "sft"}, {"trainer": "dpo"}]
    return Run(
        seeds=5,
        levels=LEVELS | levels,
        decision={"metric": "gold_score", "compare": ["orpo-0.1", "sft-dpo"], "margin": margin},
        changes={"arms": {**arms, "sft-dpo": sft_dpo}},
    )


@pytest.mark.parametrize(("high", "status"), [(0.4, "holds"), (0.9, "does not hold"), (0.757, "cannot tell")])
def test_a_beta_above_the_range_is_compared_with_the_one_in_its_middle(
    tmp_path: Path, high: float, status: str
) -> None:
    run = beta_run({"orpo-0.05": 0.7, "orpo-0.1": 0.757, "orpo-2.0": high})
    rows = claims_of(make_results(tmp_path, run), "useful_beta_range")
    assert [row.case for row in rows] == [
        "beta 2 against 0.1 on gold_score",
        "beta 2 against 0.1 on chosen_nll",
    ]
    assert {row.status for row in rows} == {status}
    assert [row.quantity for row in rows] == [
        "gold_score, beta 2 minus 0.1",
        "chosen_nll, beta 2 minus 0.1, turned so that more is better",
    ]
    told = {
        "holds": "detected to be worse",
        "does not hold": "detected to be better",
        "cannot tell": "not shown",
    }
    assert all(told[status] in (row.finding or "") for row in rows)


@pytest.mark.parametrize("high", [0.757, 0.72])  # no difference, and one that is detected but does not matter
def test_a_beta_outside_that_is_shown_to_be_as_good_refutes_the_range(tmp_path: Path, high: float) -> None:
    run = beta_run({"orpo-0.05": 0.7, "orpo-0.1": 0.757, "orpo-2.0": high}, margin=0.2)
    score, signal = claims_of(make_results(tmp_path, run), "useful_beta_range")
    assert score.status == "does not hold"
    assert signal.status == ("cannot tell" if high == 0.757 else "holds")  # no margin is declared for it


def test_a_beta_is_as_good_where_the_interval_at_its_share_of_alpha_lies_within_the_margin(
    tmp_path: Path,
) -> None:
    levels = {"orpo-0.05": 0.7, "orpo-0.1": 0.757, "orpo-2.0": 0.757}
    results = read_results(make_results(tmp_path / "first", beta_run(levels)))
    models = results.models()
    high, middle = (
        score_tables(results, models[arm])["gold_score"].units() for arm in ("orpo-2.0", "orpo-0.1")
    )
    estimate = paired(high, middle)
    border = abs(float(estimate.difference)) + float(
        estimate.half_width(0.05 / 2)
    )  # two tests, on two metrics
    for reach, status in ((1.001, "does not hold"), (0.999, "cannot tell")):
        run = beta_run(levels, margin=reach * border)
        score, _ = claims_of(make_results(tmp_path / status, run), "useful_beta_range")
        assert score.status == status


@pytest.mark.parametrize(("low", "status"), [(0.5, "holds"), (0.9, "does not hold"), (0.757, "cannot tell")])
def test_the_lower_end_of_the_range_is_judged_as_well(tmp_path: Path, low: float, status: str) -> None:
    run = beta_run({"orpo-0.01": low, "orpo-0.1": 0.757})
    arms = {f"orpo-{beta}": [{"trainer": "orpo", "arguments": {"beta": beta}}] for beta in (0.01, 0.1)} | {
        "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}]
    }
    (row,) = claims_of(make_results(tmp_path, replace(run, changes={"arms": arms})), "useful_beta_range")
    assert (row.case, row.status) == ("beta 0.01 against 0.1 on gold_score", status)


def test_the_beta_that_a_sweep_chose_is_the_arms(tmp_path: Path) -> None:
    run = beta_run({"orpo-0.05": 0.7, "orpo-0.1": 0.757, "orpo-2.0": 0.4})
    points = {"orpo-2.0": {"points": [{"0.arguments.beta": 0.07}, {"0.arguments.beta": 3.0}]}}
    sweep = {"arms": points, "metric": "gold_score", "unequal_effort": "only one is swept"}
    run = replace(run, changes=run.changes | {"sweep": sweep}, chosen={"orpo-2.0": 0})
    cases = [row.case for row in claims_of(make_results(tmp_path, run), "useful_beta_range")]
    assert [case for case in cases if "sweep" not in case] == []
    assert cases[0] == "orpo-2.0, sweep: beta 3 against 0.07 on gold_score, validation items"


@pytest.mark.parametrize("chooses", ["chosen_nll", "gold_score"])
@pytest.mark.parametrize(("shift", "status"), [(-0.3, "holds"), (0.2, "does not hold")])
def test_a_sweep_judges_the_sft_signal_whatever_chose(
    tmp_path: Path, shift: float, status: str, chooses: str
) -> None:
    run = swept(
        {"metric": chooses, "seeds": 3},
        shifts={("orpo@2", seed): shift for seed in range(3)},
        decision={"metric": "gold_score", "margin": 0.02},
        betas=[0.05, 0.1, 0.5],
    )
    *_, row = claims_of(make_results(tmp_path, run), "useful_beta_range")
    assert row.case == "orpo, sweep: beta 0.5 against 0.1 on chosen_nll, validation items"
    assert row.status == status
    assert len(row.evidence) == 6 * (1 if chooses == "chosen_nll" else 2)


def test_a_sweep_that_does_not_score_the_sft_signal_says_so(tmp_path: Path) -> None:
    run = swept({"metric": "gold_score", "seeds": 2}, betas=[0.01, 0.1, 0.5, 1.0], groups=("generation",))
    rows = claims_of(make_results(tmp_path, run), "useful_beta_range")
    on = ", sweep: beta {} against 0.1 on gold_score, validation items"
    assert [row.case for row in rows] == [
        *("orpo" + on.format(beta) for beta in ("0.01", "0.5", "1")),
        "orpo, sweep: betas above 0.2 on chosen_nll, the SFT signal",
    ]
    assert rows[-1].status == "not measured"
    assert "scored on gold_score, which chose, and not on preference" in rows[-1].reason


def swept(sweep: dict[str, Any], *, betas: list[float], arms: tuple[str, ...] = ARMS, **changes: Any) -> Run:
    """Both arms swept over the same betas, or only some of them; the first point is chosen."""
    grids = {arm: {"grid": {f"{ARMS.index(arm)}.arguments.beta": betas}} for arm in arms}
    effort = {} if len(arms) == 2 else {"unequal_effort": "said so"}
    return Run(
        seeds=5,
        changes={"sweep": {"arms": grids, **sweep, **effort}},
        chosen=dict.fromkeys(arms, 0),
        **changes,
    )


@pytest.mark.parametrize(
    ("orpo", "margin", "arms", "betas", "status"),
    [
        (0.6, 0.02, ARMS, [0.05, 0.1], "holds"),
        (0.6, 0.02, ("sft-dpo",), [0.05, 0.1], "cannot tell"),  # ORPO may only have had a bad setting
        (0.6, 0.02, (), [], "cannot tell"),
        (0.6, 0.02, ARMS, [0.1], "cannot tell"),  # one point is no tuning
        (0.6, 0.4, ARMS, [0.05, 0.1], "cannot tell"),  # worse, but by less than the margin: equivalent
        (0.9, 0.02, ARMS, [0.05, 0.1], "cannot tell"),
    ],
)
def test_a_tuned_orpo_that_loses_to_a_tuned_dpo_underperforms_on_this_set(
    tmp_path: Path, orpo: float, margin: float, arms: tuple[str, ...], betas: list[float], status: str
) -> None:
    about: dict[str, Any] = {
        "levels": LEVELS | {"orpo": orpo, "sft-dpo": 0.75},
        "decision": {"metric": "gold_score", "margin": margin},
    }
    run = (
        swept({"metric": "gold_score", "seeds": 2}, betas=betas, arms=arms, **about)
        if arms
        else Run(seeds=5, **about)
    )
    (row,) = claims_of(make_results(tmp_path, run), "underperforms_somewhere")
    assert row.status == status
    assert (row.measured_by is None) == (status == "holds")
    assert (row.finding or "").startswith(
        "ORPO lost" if margin == 0.02 and orpo == 0.6 else "ORPO was not shown"
    )
    if status == "cannot tell" and orpo < 0.75 and margin < 0.1:
        assert "sweep over both arms" in (row.measured_by or "")


def test_a_loss_that_lacks_seeds_of_one_arm_is_no_underperforming(tmp_path: Path) -> None:
    run = swept(
        {"metric": "gold_score", "seeds": 2},
        betas=[0.05, 0.1],
        levels=LEVELS | {"orpo": 0.6},
        unfinished=frozenset({("orpo", 4)}),
    )
    (row,) = claims_of(make_results(tmp_path, run), "underperforms_somewhere")
    assert row.status == "cannot tell"


def test_arms_that_differ_in_more_than_beta_say_nothing_of_its_range(tmp_path: Path) -> None:
    run = beta_run({"orpo-0.05": 0.7, "orpo-0.1": 0.757, "orpo-2.0": 0.4}, learning_rate=0.5)
    (claim,) = claims_of(make_results(tmp_path, run), "useful_beta_range")
    assert claim.status == "not measured"


def test_rows_that_had_to_be_dropped_are_not_straight_in(tmp_path: Path) -> None:
    (claim,) = claims_of(make_results(tmp_path), "same_dataset_straight_in")
    assert (claim.status, claim.value) == ("does not hold", pytest.approx(2 / 302))


def test_one_arm_alone_measures_nothing_of_the_other(tmp_path: Path) -> None:
    found = summarise(make_results(tmp_path, Run(arms=["orpo"]))).claims
    assert list(dict.fromkeys(claim.name for claim in found)) == NAMES
    assert {claim.status for claim in found if claim.name != "same_dataset_straight_in"} == {"not measured"}


def test_a_sweep_of_both_arms_is_not_called_one_setting(tmp_path: Path) -> None:
    run = swept({"metric": "gold_score", "seeds": 2}, betas=[0.05, 0.1])
    found = summarise(make_results(tmp_path, run))
    assert found.sweep is not None
    near = {arm: found.sweep.arms[arm].num_within_margin for arm in ARMS}
    reasons = {claim.name: claim for claim in found.claims}
    one_pass, somewhere = reasons["lands_in_one_pass"], reasons["underperforms_somewhere"]
    assert one_pass.reason.endswith(f"2 of orpo ({near['orpo']}), 2 of sft-dpo ({near['sft-dpo']})")
    assert one_pass.measured_by is None
    assert "one setting" not in somewhere.reason
    assert somewhere.reason.endswith(f"2 of orpo ({near['orpo']}), 2 of sft-dpo ({near['sft-dpo']})")


def test_no_recipe_is_judged_against_another_where_the_audit_found_them_treated_unalike(
    tmp_path: Path,
) -> None:
    results = read_results(make_results(tmp_path, Run(seeds=5)))
    tables = tables_of_models(results)
    models = make_summary(results).models()
    fair = claims(results, tables, models, None)
    unfair = claims(results, tables, models, None, fair=False)
    judged = {claim.name for claim in fair if claim.status in ("holds", "does not hold")}
    assert judged >= {"lands_in_one_pass", "no_regression_panic", "same_dataset_straight_in"}
    for before, now in zip(fair, unfair, strict=True):
        if before.name == "same_dataset_straight_in" or before.status == "not measured":
            assert now == before
        else:
            assert (now.status, now.finding, now.value) == ("cannot tell", None, before.value)
            assert "the audit did not find the arms treated alike" in now.reason
