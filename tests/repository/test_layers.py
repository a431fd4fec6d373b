"""Who may import whom, and what the command line must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.configs import VALID, write

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "lm_eval",
    "pandas",
    "scipy",
    "matplotlib",
    "statsmodels",
)

# The parts of pipelines that load no torch: what a stage is, where files are, and the look at local data.
LIGHT = {
    "pipelines.stages",
    "pipelines.evaluations",
    "pipelines.outcomes",
    "pipelines.judge_settings",
    "pipelines.locations",
    "pipelines.errors",
    "pipelines.data.forms",
    "pipelines.data.sources",
    "pipelines.data.inspect",
    "pipelines.forecast.request",
    "pipelines.data.splitting",
}
# What runs in a stage's own process, or in the forecast's.
IN_THE_CHILD = ("harness/stage.py", "harness/evaluation/", "harness/forecast/child.py")
# `check --deep` opens the tokenizer, which is the one thing that a command does with the heavy libraries itself.
DEEP_CHECK = "harness/deep_check.py"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_pipelines_never_imports_harness() -> None:
    wrong = {
        path.name
        for path in sources("pipelines")
        for name in imports(path)
        if name.split(".")[0] == "harness"
    }
    assert wrong == set()


def test_harness_goes_through_the_narrow_door() -> None:
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in sources("harness")
        if not str(path.relative_to(ROOT)).startswith((*IN_THE_CHILD, DEEP_CHECK))
        for name in imports(path)
        if name.startswith("pipelines") and name not in LIGHT and name.rpartition(".")[0] not in LIGHT
    }
    assert wrong == set()


def test_heavy_libraries_are_imported_at_the_top_only_where_stages_run() -> None:
    light = [path for path in sources("harness") if "evaluation" not in path.parts]
    for path in light:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        names = {alias.name for node in ast.walk(top) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(top) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names}.isdisjoint(
            {"torch", "transformers", "trl", "peft", "lm_eval"}
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["run", "wrong.yaml"],
        ["check", "config.yaml"],
        ["check", "local.yaml"],
        ["plan", "config.yaml", "--no-forecast"],
        ["plan", "local.yaml", "--json"],
    ],
)
def test_the_command_line_loads_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path)
    (tmp_path / "wrong.yaml").write_text(VALID + "sed: 1\n")
    local = VALID.replace("{path: toy, num_pairs: 100}", "{path: pairs.csv}").replace("judges: [gold]", "")
    (tmp_path / "local.yaml").write_text(local)
    rows = [f"p{number},good {number},bad {number}\n" for number in range(40)]
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected\n" + "".join(rows))
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import main; main({arguments!r});"
        f"sys.stderr.write('loaded: ' + ' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr.splitlines()[-1] == "loaded: "
    assert "not checked here" not in done.stdout


def test_the_process_that_runs_a_comparison_loads_no_torch(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import harness.run;"
        f"print('loaded: ' + ' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout == "loaded: \n"
