"""Every ready-made config checks offline and is commented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli import main
from harness.load_config import load_comparison

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def test_the_configs_that_the_readme_promises_are_there() -> None:
    assert set(CONFIGS) >= {
        "toy.yaml", "toy-full.yaml", "staging-toy.yaml", "smollm2-135m.yaml", "llama-3.1-8b-full.yaml", "llama-3.1-8b-lora.yaml",
    }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_ready_made_config_checks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["check", f"configs/{name}"]) == 0
    assert capsys.readouterr().out.endswith(f"configs/{name} is valid\n")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_ready_made_config_says_where_its_numbers_come_from(name: str) -> None:
    text = (ROOT / "configs" / name).read_text(encoding="utf-8")
    comments = " ".join(re.findall(r"#(.*)", text)).lower()
    assert "learning rate" in comments
    assert "beta" in comments


@pytest.mark.parametrize("name", CONFIGS)
def test_every_stage_of_a_ready_made_config_states_its_learning_rate(name: str) -> None:
    """TRL's default for ORPO, 1e-6, is not what was published, 8e-6."""
    comparison = load_comparison(ROOT / "configs" / name)
    for stages in comparison.arms.values():
        for stage in stages:
            assert "learning_rate" in comparison.training.arguments | stage.arguments
