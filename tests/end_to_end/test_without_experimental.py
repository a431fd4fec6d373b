"""A TRL that has dropped its experimental ORPO, in processes of their own: stock is refused in one line, all else works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.small import COMMAND, ENVIRONMENT, REPOSITORY, SOURCES, make_config

WITHOUT = {
    **ENVIRONMENT,
    "PYTHONPATH": os.pathsep.join((str(REPOSITORY / "tests/without_experimental"), SOURCES)),
}
# Stages that are really trained, and an audit of them; `docs/tests.md` says how to run all tests so.
SELECTION = (
    "tests/pipelines/training/test_arms.py::test_orpo_after_sft_starts_from_the_sft_model",
    "tests/pipelines/training/test_fused_orpo.py::test_stock_orpo_is_refused_in_one_line_where_trl_has_none",
    "tests/harness/audit/test_sampled.py::test_checks_that_rest_on_a_sample_pass_and_say_so",
)


def without(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=WITHOUT, capture_output=True, text=True, check=False)


def test_stages_train_and_are_audited_without_the_experimental_trainer() -> None:
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SELECTION]
    found = without(pytest, REPOSITORY)
    assert found.returncode == 0, found.stdout
    assert re.search(r"6 passed, 2 skipped", found.stdout)
    assert "TRL's experimental ORPOTrainer is not here" in found.stdout


def test_a_config_that_asks_for_the_experimental_trainer_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    arguments = {"learning_rate": 0.01}
    make_config(
        tmp_path,
        arms={
            "orpo": [{"trainer": "orpo", "implementation": "trl", "arguments": arguments}],
            "sft-dpo": [
                {"trainer": "sft", "arguments": arguments},
                {"trainer": "dpo", "arguments": arguments},
            ],
        },
    )
    found = without([*COMMAND, "run", "small.yaml"], tmp_path)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
    assert "arms.orpo.0.implementation: trl needs TRL's experimental ORPOTrainer" in found.stderr
    assert "fused" in found.stderr
    assert not (tmp_path / "results").exists()
