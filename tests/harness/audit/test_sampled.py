"""A recorder that notes every 16th step only: what the audit says of it, and that it still finds what lies in those steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.audit import Audit, audit
from harness.results import read_results
from pipelines.training.recording import SAMPLED_STEPS
from tests.harness.audit import planted
from tests.harness.audit.arms import Arms, make_arms

# 3 steps an epoch, so that steps 1 and 17 are noted.
SHAPE = {"recording": "sampled", "num_train_epochs": 6}
OF_WHAT_WAS_RECEIVED = (
    "same_pairs",
    "same_ids",
    "same_masks",
    "same_order",
    "one_end_of_turn",
    "no_empty_completion",
    "no_test_prompt_in_training",
    "same_effective_batch",
)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    return make_arms(tmp_path_factory.mktemp("sampled") / "planted", **SHAPE)


@pytest.fixture
def arms(sampled: Arms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arms:
    shutil.copytree(sampled.folder, tmp_path / "planted")
    return Arms(tmp_path / "planted", monkeypatch, SHAPE)


def audited(arms: Arms) -> Audit:
    return audit(read_results(arms.folder))


def test_checks_that_rest_on_a_sample_pass_and_say_so(sampled: Arms) -> None:
    found = {check.id: check for check in audited(sampled).checks}
    assert found["recorded"].status == "warning"
    assert found["recorded"].evidence.count(f"only every {SAMPLED_STEPS}th step") == 3
    for name in OF_WHAT_WAS_RECEIVED:
        assert found[name].status == "pass", name
        assert "sampled" in found[name].evidence or f"every {SAMPLED_STEPS}th step" in found[name].evidence
    for name in ("same_base_weights", "no_dropped_batch", "same_settings"):
        assert f"{SAMPLED_STEPS}th" not in found[name].evidence


@pytest.mark.parametrize(
    ("plant", "caught_by"),
    [
        (planted.an_extra_bos, {"same_ids"}),
        (planted.a_second_eos, {"one_end_of_turn", "same_ids"}),
        (planted.another_template, {"same_ids"}),
        (planted.masks_over_the_prompt, {"same_masks"}),
        (planted.another_shuffle_seed, {"same_order"}),
        (planted.accumulation_ignored, {"same_effective_batch"}),
        (planted.rows_dropped_in_one_arm, {"same_pairs"}),
        (planted.the_rejected_replies_of_one_batch_dropped, {"same_pairs"}),
    ],
)
def test_what_is_planted_in_the_steps_that_were_noted_is_caught(
    arms: Arms, plant: Callable[[Arms], None], caught_by: set[str]
) -> None:
    plant(arms)
    found = audited(arms)
    assert {check.id for check in found.failed()} == caught_by
