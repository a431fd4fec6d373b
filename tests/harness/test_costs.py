"""Cost ratios of few and of strange seeds; what an ordinary run costs is tested with the summary."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from harness.costs import log_ratio
from harness.numbers import TOO_WIDE
from harness.plan import read_plan
from harness.records import RECORD
from harness.report.write import write_report
from tests.harness.fixtures_results import Run, make_results


def test_a_ratio_is_the_geometric_mean_with_students_interval_of_its_logarithm() -> None:
    found = log_ratio({0: 1.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 5: 3.0}, 0.05)
    assert found is not None
    (ratio, low, high), num_seeds = found
    half = 12.7062047364 * math.log(2) / 2  # Student's t of one degree of freedom; the sd is ln 2 / sqrt 2
    assert (ratio, low, high, num_seeds) == pytest.approx(
        (math.sqrt(2), math.sqrt(2) * math.exp(-half), math.sqrt(2) * math.exp(half), 2)
    )


def test_a_seed_that_took_next_to_nothing_is_in_no_ratio() -> None:
    found = log_ratio({0: 5e-324, 1: 2.0}, {0: 3.0, 1: 1.0}, 0.05)
    assert found == (pytest.approx((2.0, None, None)), 1)


@pytest.mark.parametrize("alpha", [1e-6, 1e-16])
def test_bounds_that_no_number_can_hold_are_cut(alpha: float) -> None:
    found = log_ratio({0: 1.0, 1: 20.0}, {0: 1.0, 1: 1.0}, alpha)
    assert found is not None
    (ratio, low, high), _ = found
    assert ratio == pytest.approx(math.sqrt(20))
    assert low is not None
    assert high is not None
    assert 0 < low < 1e-300
    assert 1e300 < high < math.inf


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_two_seeds_that_took_twenty_times_as_long_as_each_other_bound_nothing(
    tmp_path: Path, alpha: float
) -> None:
    decision = {"metric": "gold_score", "margin": 0.02, "alpha": alpha}
    folder = make_results(tmp_path, Run(seeds=2, decision=decision))
    record = (
        folder / next(t for t in read_plan(folder).trials if t.label() == "orpo seed 1").training[-1] / RECORD
    )
    content = json.loads(record.read_text())
    content["cost"] |= {name: 20 * content["cost"][name] for name in ("train_seconds", "total_seconds")}
    record.write_text(json.dumps(content))
    first, *page = write_report(folder, tmp_path).read_text().splitlines()
    assert "times (interval too wide to say; 2 seeds) the training time of sft-dpo" in first
    bill = next(line for line in page if line.startswith("| training time "))
    claim = next(line for line in page if "training time, orpo over sft-dpo" in line)
    index = next(line for line in (tmp_path / "index.md").read_text().splitlines() if "[made-up]" in line)
    assert all(f"{TOO_WIDE} " in line or f"({TOO_WIDE})" in line for line in (bill, claim, index))
    assert not re.search(r"[0-9],[0-9]{3},[0-9]{3}", "\n".join([first, bill, claim, index]))
