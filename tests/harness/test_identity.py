"""A stage's identity has the code and the libraries that the stage uses, found here by another walk from its process's entry."""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.identity import WORK, sources_of
from harness.machine import versions

ROOT = Path(__file__).parents[2]
ENTRY = "harness.stage"
PLACES = "harness.evaluation.judges.places"
# The way from there to the work, by kind of stage. Each of these chooses inside its functions.
WAYS = {
    "evaluate": ("harness.evaluation.run",),
    "judge": ("harness.evaluation.judges.run", "harness.evaluation.judges.make"),
    "other": ("pipelines.run",),
}
CHOOSING = {ENTRY, *(module for way in WAYS.values() for module in way)}
EVALUATIONS = {"preference", "generation", "drift", "benchmarks"}
JUDGES = {"gold", "command", "plugin", "llm", "reward_model"}
NO_PART = {
    ENTRY: "logs, failures, the process's end; what it does to numbers is in modules of their own",
    "pipelines.run": "hands over to the work",
    "harness.evaluation.judges.make": "hands over to the judge",
    "harness.evaluation.loaded": "keeps a model for the next stage; in the identity of evaluations all the same",
    "harness.records": "how a record is written",
    "harness.failures": "what a failure is called",
    "harness.interrupts": "how a person stops it",
    "harness.integrity": "whether files are still what their record says",
    "harness.machine": "what it says is in the identity by itself",
    "harness.keeping": "the name of a folder",
}
METERS = {
    f"harness.{name}" for name in ("contention", "device_sampler", "instruments", "meters", "nvml", "peaks")
}
CARRIERS = {"pydantic", "pydantic_core", "yaml", "pyarrow", "safetensors"}


def path_of(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def imports(module: str, *, at_top: bool = False) -> frozenset[str]:
    path = path_of(module)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports name their package"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("harness", "pipelines") and path_of(name)}


def stage_of(work: str) -> str:
    return "evaluate" if work in EVALUATIONS else "judge" if work in JUDGES else work


def used(work: str) -> set[str]:
    """Modules of this project that a stage uses, less those that have no part."""
    found: set[str] = set()
    waiting = [ENTRY, *WAYS.get(stage_of(work), WAYS["other"]), WORK[work]]
    waiting += [PLACES] * (work in ("command", "plugin"))
    while waiting:
        name = waiting.pop()
        if name not in found and (name in CHOOSING or name not in NO_PART):
            found.add(name)
            waiting += ours(imports(name, at_top=name in CHOOSING))
    return found - NO_PART.keys()


@pytest.mark.parametrize("work", WORK)
def test_the_identity_has_every_module_that_the_stage_uses(work: str) -> None:
    kind = stage_of(work)
    code, _ = sources_of(kind, work)
    lacking = used(work) - code.keys()
    assert lacking == (METERS if kind == "judge" else set())


def test_what_chooses_between_kinds_chooses_nothing_that_is_not_known_here() -> None:
    chosen = {
        name for module in CHOOSING for name in ours(imports(module)) - ours(imports(module, at_top=True))
    }
    assert {name for name in chosen if not path_of(name).is_dir()} - CHOOSING == {*WORK.values(), PLACES}


@pytest.mark.parametrize("work", WORK)
def test_the_identity_has_every_library_that_the_work_imports(work: str) -> None:
    code, libraries = sources_of(stage_of(work), work)
    around = METERS | {"harness.determinism"}
    named = {name.split(".")[0] for module in code.keys() - around for name in imports(module)}
    wanted = named - sys.stdlib_module_names - {"harness", "pipelines"} - CARRIERS
    assert {name.replace("_", "-") for name in wanted} <= set(libraries)
    assert {name: versions()[name] for name in libraries if name != "python"} == {
        name: version(name) for name in libraries if name != "python"
    }


@pytest.mark.parametrize(
    ("work", "libraries"),
    [
        ("data", {"jinja2", "numpy", "tokenizers"}),
        ("sft", {"accelerate", "numpy", "torch", "trl"}),
        ("generation", {"tokenizers", "torch"}),
        ("benchmarks", {"lm-eval", "tokenizers"}),
    ],
)
def test_what_is_known_to_compute_is_in_the_identity(work: str, libraries: set[str]) -> None:
    assert libraries <= set(sources_of(stage_of(work), work)[1])


@pytest.mark.parametrize("work", ["gold", "command", "llm"])
def test_a_judge_without_a_model_says_the_same_whatever_torch_is_there(work: str) -> None:
    assert sources_of("judge", work)[1] == ["python"]


@pytest.mark.parametrize("work", WORK)
def test_report_and_command_line_are_in_no_identity(work: str) -> None:
    code, _ = sources_of(stage_of(work), work)
    outside = (
        "harness.report",
        "harness.commands",
        "harness.cli",
        "harness.config",
        "harness.planning",
        "harness.launch",
    )
    assert not [module for module in code if module.startswith(outside)]
