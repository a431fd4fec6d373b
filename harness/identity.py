"""A stage's identity: a hash of everything that can change its outcome, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from harness.benchmark_tasks import benchmark_name
from harness.benchmark_tasks import content_hash as tasks_hash
from harness.config import Decision
from harness.file_hashes import content_hash
from harness.judge_plugins import plugin_version
from harness.machine import machine, versions
from harness.sources import code_hashes, libraries_of
from pipelines.data.sources import content_hash_of
from pipelines.evaluations import BenchmarkEvaluation
from pipelines.judge_settings import TOY, CommandJudge, Judge, PluginJudge, RewardModelJudge
from pipelines.locations import model_location
from pipelines.stages import (
    ConvertSettings,
    EvaluateSettings,
    JudgeSettings,
    ModelSettings,
    PrepareSettings,
    Stage,
    StageInputs,
    StageSettings,
)

IDENTITY = "identity.json"  # beside a stage: what its id is a hash of, so that it can be explained later
Identity = dict[str, Any]

# The module that does the work of a kind of stage, of evaluation or of judge.
WORK: dict[str, str] = {
    "pretrain": "pipelines.toy.pretrain",
    "convert": "pipelines.convert",
    "data": "pipelines.data.prepare",
    "sft": "pipelines.training.train",
    "dpo": "pipelines.training.train",
    "orpo": "pipelines.training.train",
    "reference": "pipelines.training.reference",
    "calibrate": "pipelines.training.calibrate",
    "preference": "harness.evaluation.preference",
    "generation": "harness.evaluation.generation",
    "drift": "harness.evaluation.drift",
    "benchmarks": "harness.evaluation.benchmarks",
    "reward": "pipelines.toy.reward_model",
    "reward_model": "harness.evaluation.judges.reward_model",
    "gold": "harness.evaluation.judges.gold",
    "command": "harness.evaluation.judges.command",
    "plugin": "harness.evaluation.judges.plugin",
    "llm": "harness.evaluation.judges.llm",
}
# What has a part in the work of such a kind besides that module.
BESIDE_WORK: dict[str, tuple[str, ...]] = {
    "evaluate": ("harness.evaluation.run",),
    "judge": ("harness.evaluation.judges.run",),
    "command": ("harness.evaluation.judges.places",),
    "plugin": ("harness.evaluation.judges.places",),
}
# These import the work of every kind inside their functions; only what they import at the top is part of each.
DISPATCHERS = frozenset(module for kind in ("evaluate", "judge") for module in BESIDE_WORK[kind])
# What the process of every stage does first.
PREPARATION = "harness.determinism"
# A mended meter must not leave old costs beside new ones. Judges are on no bill, and some are paid for each answer.
INSTRUMENTS = "harness.instruments"
# Imported by what counts, and cannot change what a stage finds; with these, what only they import.
NO_PART = frozenset(
    (
        "harness.records",  # how a record is written, not what
        "harness.evaluation.judges.make",  # hands over to the judge
    )
)
# Libraries that read, check and write what others compute.
CARRIERS = frozenset(("pydantic", "pydantic_core", "yaml", "pyarrow", "safetensors"))
# Libraries that others compute with, where these are used.
BENEATH = {"transformers": ("accelerate", "tokenizers")}
# Of a judge's settings: what cannot change what it says.
_IRRELEVANT_TO_JUDGE = (
    "timeout_minutes", "timeout_seconds", "api_key_env", "token_cap", "concurrency", "retries",
)  # fmt: skip


def make_stage(
    settings: StageSettings,
    inputs: StageInputs,
    *,
    seed: int,
    threads: int,
    device: Any,
    night: str | None = None,
) -> tuple[Stage, Identity]:
    """A stage with its id, the kind and 12 hex digits of the hash of `identity`; and that identity."""
    described = identity(settings, inputs, seed=seed, threads=threads, device=device)
    if night is not None:
        described["night"] = night
    digest = canonical_hash(described)
    stage = Stage(
        id=f"{settings.kind}-{digest[:12]}",
        settings=settings,
        inputs=inputs,
        seed=seed,
        threads=threads,
        device=device,
        night=night,
    )
    return stage, described


def identity(
    settings: StageSettings, inputs: StageInputs, *, seed: int, threads: int, device: str
) -> Identity:
    """All that can change the stage's outcome: settings, content of its sources, inputs, seed, code, machine kind."""
    code, libraries = sources_of(settings.kind, _work_of(settings))
    installed = versions()
    return {
        "settings": _without_names(settings),
        "content": _content(settings, inputs),
        "inputs": inputs.model_dump(mode="json"),
        "seed": seed,
        "threads": threads,
        "device": machine().accelerator if device == "cuda" else f"cpu {machine().processor}",
        "code": code,
        "versions": {library: installed.get(library) for library in libraries},
    }


@cache
def sources_of(kind: str, work: str) -> tuple[dict[str, str], list[str]]:
    """Hashes of the code that has a part in a stage, by module, and the libraries whose version can change what it finds.

    Args:
        kind: The stage's.
        work: The group of an evaluation, the kind of a judge; else the stage's kind again.
    """
    beside = [module for part in dict.fromkeys((kind, work)) for module in BESIDE_WORK.get(part, ())]
    code = code_hashes(WORK[work], *beside, dispatchers=DISPATCHERS, leave_out=NO_PART)
    used = libraries_of(code) - CARRIERS
    used |= {library for user in used for library in BENEATH.get(user, ())}
    around = (PREPARATION,) if kind == "judge" else (PREPARATION, INSTRUMENTS)
    code = code | code_hashes(*around, leave_out=NO_PART)
    return dict(sorted(code.items())), ["python", *sorted(name.replace("_", "-") for name in used)]


def _work_of(settings: StageSettings) -> str:
    if isinstance(settings, EvaluateSettings):
        return settings.evaluation.group
    return settings.judge.kind if isinstance(settings, JudgeSettings) else settings.kind


def canonical_hash(content: Any) -> str:
    """SHA-256 of `content` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_identity(folder: Path) -> Identity:
    """What the id of the stage in `folder` is a hash of; empty where it left none, or a damaged one."""
    try:
        found = from_json((folder / IDENTITY).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def decision_hash(decision: Decision) -> str:
    """The hash of a decision rule, as plans and records carry it; a rule from before `looks` keeps its hash."""
    described = decision.model_dump(mode="json")
    if described["looks"] == 1:
        del described["looks"]
    return canonical_hash(described)


def _without_names(settings: StageSettings) -> dict[str, Any]:
    """The settings less the names of files: what they hold is in `content`, so a moved file changes nothing."""
    dumped = settings.model_dump(mode="json")
    for part in (dumped, dumped.get("stage", {})):
        for section, name in (("data", "path"), ("model", "name")):
            part.get(section, {}).pop(name, None)
    if "tasks" in dumped.get("evaluation", {}):
        dumped["evaluation"]["tasks"] = [benchmark_name(task) for task in dumped["evaluation"]["tasks"]]
    judge = dumped.get("judge", {})
    if "command" in judge:
        judge["command"] = [Path(part).name if Path(part).is_file() else part for part in judge["command"]]
    for name in (*_IRRELEVANT_TO_JUDGE, *["model"] * (judge.get("kind") == "reward_model")):
        judge.pop(name, None)
    return dumped


def _content(settings: StageSettings, inputs: StageInputs) -> dict[str, str]:
    """Hashes of what lies outside the results folder: data files, model files, benchmark tasks."""
    found: dict[str, str] = {}
    if isinstance(settings, PrepareSettings):
        found["data"] = content_hash_of(settings.data)
        found["tokenizer"] = _model_hash(settings.model)
    elif isinstance(settings, ConvertSettings) or (hasattr(settings, "model") and inputs.base is None):
        found["model"] = _model_hash(settings.model)
    if isinstance(settings, EvaluateSettings) and isinstance(settings.evaluation, BenchmarkEvaluation):
        found["tasks"] = tasks_hash(settings.evaluation.tasks)
    if isinstance(settings, JudgeSettings):
        found |= _judge_content(settings.judge)
    return found


def _judge_content(judge: Judge) -> dict[str, str]:
    """A command's own files (its scripts), a plugin's distribution with its version."""
    if isinstance(judge, CommandJudge):
        paths = [Path(argument) for argument in judge.command]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}
    if isinstance(judge, RewardModelJudge) and judge.model != TOY:
        return {"model": _model_hash(ModelSettings(name=judge.model, revision=judge.revision))}
    if isinstance(judge, PluginJudge):
        return {"plugin": plugin_version(judge.plugin)}
    return {}


def _model_hash(model: ModelSettings) -> str:
    """Names and contents of a local model's files; a hub id by itself."""
    folder = Path(model_location(model.name))
    if not folder.is_dir():
        return f"{model.name}@{model.revision}"
    wanted = [folder / model.gguf_file] if model.gguf_file else sorted(folder.iterdir())
    return canonical_hash([(path.name, content_hash(path)) for path in wanted if path.is_file()])
