"""What the README tells people to type works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def commands(first_word: str) -> list[list[str]]:
    """The indented lines of the README that begin with `first_word`."""
    return [line.split() for line in re.findall(rf"^    ({first_word} .+)$", README, flags=re.MULTILINE)]


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = {words[1] for words in commands("make")} | set(re.findall(r"`make ([a-z0-9-]+)`", README))
    assert {"compare", "test"} <= named
    assert not [target for target in named if f"\n{target}:" not in makefile]


def test_a_config_of_ones_own_is_made_and_checked_as_the_readme_says(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [{name: f"{text} {number}" for name, text in row.items()} for number in range(100)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    told = [words for words in commands("prefduel") if words[1] in ("init", "check")]
    assert [words[1] for words in told] == ["init", "check"]
    for words in told:
        ran = subprocess.run(
            [sys.executable, "-m", "harness", *words[1:]],
            cwd=tmp_path,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_both_commands_work_in_a_fresh_clone_and_a_second_call_reuses(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    subprocess.run(["make", "compare"], cwd=clone, check=True)
    summary = json.loads((clone / "results/toy/summary.json").read_text())
    report = (clone / "reports/toy.md").read_bytes()
    assert set(summary["arms"]) == {"orpo", "sft-dpo"}
    again = subprocess.run(["make", "compare"], cwd=clone, check=True, capture_output=True, text=True)
    assert "starts" not in again.stdout
    assert (clone / "reports/toy.md").read_bytes() == report
    subprocess.run(["make", "test"], cwd=clone, check=True)
